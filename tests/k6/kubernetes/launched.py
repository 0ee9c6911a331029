"""How tests watch runners: time limits for a busy machine, and waiting for states."""

import time
from collections.abc import Callable
from threading import Event

import pytest

from loadtest.errors import K6Error
from loadtest.k6.distributed.protocol import RunnerState
from loadtest.k6.kubernetes.objects import Bounds
from loadtest.k6.kubernetes.test_run import ClusterFleet
from tests.support.waiting import HANG_SECONDS

BOUNDS = Bounds(poll=0.05, stuck=0.2, silence=5.0)
# Two VUs, one per runner, print a line from time to time. A summary ends the log in any case.
SCRIPT = """
import { sleep } from 'k6';
export const options = { vus: 2, duration: '%ss' };
export function setup() { console.log('begins'); }
export default function () {
  console.log('a line');
  sleep(0.1);
}
export function handleSummary() {
  return { stdout: `${JSON.stringify({ loadtest: 'x'.repeat(50000) })}\\n` };
}
"""

# Reads the Secret like the scenarios do, and prints what it found.
READER = """
import encoding from 'k6/encoding';
import http from 'k6/http';
import { sleep } from 'k6';
export const options = { vus: 1, duration: '60s' };
const TOKEN = open(__ENV.RENEWAL_TOKEN_FILE);
const PARAMS = { headers: { Authorization: `Bearer ${TOKEN}` } };
export default function () {
  const secret = http.get(__ENV.RENEWAL_URL, PARAMS).json();
  const file = JSON.parse(encoding.b64decode(secret.data['bearer.json'], 'std', 's'));
  console.log(`serial ${file.serial}, expires at ${file.bearers[0].expires_at}`);
  const other = http.get(__ENV.RENEWAL_URL.replace(/[^/]*$/, 'other'), PARAMS);
  console.log(`another: ${other.status}`);
  sleep(0.2);
}
"""

States = tuple[RunnerState, ...]


def watch(fleet: ClusterFleet, until: Callable[[States], bool]) -> States:
    """Poll until the runners are in the wanted states."""
    deadline = time.monotonic() + HANG_SECONDS
    while not until(states := fleet.look()):
        assert time.monotonic() < deadline, states
        Event().wait(0.02)
    return states


def are(*phases: str) -> Callable[[States], bool]:
    """Return whether the runners have these phases."""
    return lambda states: tuple(state.phase for state in states) == phases


def find_fault(fleet: ClusterFleet) -> str:
    """Return the error of runners that cannot start or go on."""
    with pytest.raises(K6Error) as caught:
        watch(fleet, lambda _: False)
    return str(caught.value)
