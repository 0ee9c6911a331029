// URI templates are filled in as RFC 6570 says; the examples are from its sections 1.2 and 3.2.
import { check } from 'k6';
import { expandTemplate } from '../../../k6/lib/uri_template.js';

export const options = { thresholds: { checks: ['rate==1'] } };

const VALUES = { var: 'value', hello: 'Hello World!', path: '/foo/bar', x: '1024', y: '768' };
const CASES = [
  ['{var}', 'value'],
  ['{hello}', 'Hello%20World%21'],
  ['{+hello}', 'Hello%20World!'],
  ['{path}/here', '%2Ffoo%2Fbar/here'],
  ['{+path}/here', '/foo/bar/here'],
  ['X{#var}', 'X#value'],
  ['map?{x,y}', 'map?1024,768'],
  ['X{.x,y}', 'X.1024.768'],
  ['{/var,x}/here', '/value/1024/here'],
  ['{;x,y}', ';x=1024;y=768'],
  ['{?x,y}', '?x=1024&y=768'],
  ['?fixed=yes{&x}', '?fixed=yes&x=1024'],
  ['no expression', 'no expression'],
];

export default function uriTemplate() {
  for (const [template, expected] of CASES) {
    check(expandTemplate(template, VALUES), { [template]: (it) => it === expected });
  }
}
