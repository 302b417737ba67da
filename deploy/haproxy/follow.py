#!/usr/bin/env python3
"""Keeps the servers of a HAProxy backend up to date with the instances of a WyneOS workload.

    follow.py --workload web --socket /run/haproxy/admin.sock --backend web

Reads `wynectl assignments -w -o json`, and sets the backend's servers (`server-template`, all of them `disabled`) over HAProxy's runtime
socket (`level admin`). Options of wynectl, such as its address and certificate, come from its environment or context. The state of
HAProxy is read at every change and once a second: it, this program and the coordinator may be restarted at any time.
"""

import argparse
import json
import os
import select
import signal
import socket
import subprocess
import sys

TICK = 1.0
FORCED_MAINTENANCE = 1  # a bit of srv_admin_state


class Instances:
    """The known state of the workload's instances."""

    def __init__(self, port):
        self.port = port
        self.phases = {}  # phase of each instance
        self.healthy = {}  # addresses of instances that accept requests
        self.known = {}  # last address of each instance
        self.lost = set()  # addresses on nodes that were healthy and are in doubt
        self.complete = False

    def take(self, answer):
        lost = set()
        for row in answer.get("changed", []):
            one, addresses = row["assignment"]["id"], row.get("addresses", [])
            self.phases[one] = row["assignment"].get("status", {}).get("phase")
            before = self.healthy.pop(one, None)
            if len(addresses) > self.port:
                self.healthy[one] = self.known[one] = addresses[self.port]
            elif before and self.phases[one] in ("INSTANCE_PHASE_UNKNOWN", "INSTANCE_PHASE_LOST"):
                lost.add(before)
            if row["assignment"].get("goal") == "GOAL_STOP":
                # It may have ended by the time its node is in doubt.
                self.known.pop(one, None)
        for one in answer.get("removed", []):
            for known in (self.phases, self.healthy, self.known):
                known.pop(one, None)
        if answer.get("all"):
            # The stream has begun: unknown states are no sign of a loss.
            lost.clear()
        self.complete = not answer.get("more", False)
        wanted = self.wanted()
        self.lost = (self.lost | lost) - wanted

    def wanted(self):
        """The addresses of healthy instances. While most are in doubt, as after a restart of the coordinator, the earlier ones as well."""
        healthy = set(self.healthy.values())
        unknown = {self.known[one] for one, phase in self.phases.items() if phase == "INSTANCE_PHASE_UNKNOWN" and one in self.known}
        return healthy | unknown if len(unknown) > len(healthy) else healthy


class HAProxy:
    """A backend, by HAProxy's runtime socket."""

    def __init__(self, path, backend):
        self.path = path
        self.backend = backend

    def say(self, *commands):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.settimeout(5)
            stream.connect(self.path)
            stream.sendall(("; ".join(commands) + "\n").encode())
            answer = b""
            while piece := stream.recv(65536):
                answer += piece
        return answer.decode()

    def servers(self):
        """Each server's address, whether it accepts requests, and for how many seconds."""
        lines = [line.split() for line in self.say(f"show servers state {self.backend}").splitlines()]
        head = next((line[1:] for line in lines if line[:1] == ["#"]), None)
        if head is None:
            raise OSError(f"HAProxy has no backend {self.backend}")
        servers = {}
        for line in lines:
            row = dict(zip(head, line))
            if row.get("be_name") == self.backend:
                ready = not int(row["srv_admin_state"]) & FORCED_MAINTENANCE
                address = f"{row['srv_addr']}:{row['srv_port']}"
                servers[row["srv_name"]] = (address, ready, int(row["srv_time_since_last_change"]))
        return servers

    def become(self, wanted, cut):
        """Sets the served addresses; cuts off requests in progress at those of `cut`."""
        servers = self.servers()
        name = lambda server: f"{self.backend}/{server}"
        commands, there = [], set()
        for server, (address, ready, _) in servers.items():
            if not ready:
                continue
            if address in wanted and address not in there:
                there.add(address)
                continue
            commands.append(f"set server {name(server)} state maint")
            if address in cut:
                commands.append(f"shutdown sessions server {name(server)}")
        # The slot that has been idle for longest: its earlier requests have ended.
        idle = sorted((-since, server) for server, (_, ready, since) in servers.items() if not ready)
        for address in sorted(wanted - there):
            if not idle:
                print(f"{self.backend} has no slot left for {address}: raise the number of its server-template", file=sys.stderr)
                break
            _, server = idle.pop(0)
            host, port = address.rsplit(":", 1)
            commands += [f"set server {name(server)} addr {host.strip('[]')} port {port}", f"set server {name(server)} state ready"]
        # A command line has a bounded length.
        for first in range(0, len(commands), 32):
            self.say(*commands[first : first + 32])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--socket", default="/run/haproxy/admin.sock", help="HAProxy's stats socket")
    parser.add_argument("--backend", required=True)
    parser.add_argument("--port", type=int, default=0, help="which of the workload's ports, from 0")
    parser.add_argument("--cut", action="store_true", help="cut off requests in progress on nodes in doubt, instead of waiting for their timeout")
    parser.add_argument("--wynectl", default="wynectl")
    args = parser.parse_args()

    instances, haproxy = Instances(args.port), HAProxy(args.socket, args.backend)
    watch = subprocess.Popen([args.wynectl, "assignments", "-w", "--workload", args.workload, "-o", "json"], stdout=subprocess.PIPE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        return follow(watch, instances, haproxy, args)
    finally:
        watch.terminate()


def follow(watch, instances, haproxy, args):
    output, rest = watch.stdout.fileno(), b""
    while True:
        if select.select([output], [], [], TICK)[0]:
            piece = os.read(output, 1 << 20)
            if not piece:
                return watch.wait()
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                instances.take(json.loads(line))
        if not instances.complete:
            continue
        try:
            haproxy.become(instances.wanted(), instances.lost if args.cut else set())
        except OSError as error:
            print(f"{args.socket}: {error}; retrying", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
