"""Tests of a delivery: tasks as they are typed, a loopback GitHub and a webhook."""
