#!/usr/bin/env python3
"""Three serve behind HAProxy on loopback, beside one serve with three times the slots.

Requests with a common beginning have to reach the same server, cache hits have to be at least 90 % of the one server's, and
when a server is killed, each request whose answer has not begun has to get one from another server.

usage: test.py SERVE [HAPROXY]
"""

import concurrent.futures
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

SLOTS = 4
PREFIXES = 9
ROUNDS = 24
SERVE = sys.argv[1]
HAPROXY = sys.argv[2] if len(sys.argv) > 2 else "haproxy"
HERE = os.path.dirname(os.path.abspath(__file__))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A serve with the demo model."""

    def __init__(self, folder, slots):
        self.port = free_port()
        home = os.path.join(folder, str(self.port))
        self.process = subprocess.Popen(
            [SERVE, "demo", "--offline", "--port", str(self.port), "--parallel", str(slots), "--ctx-size", "512"],
            env={**os.environ, "SERVE_HOME": home}, stdout=subprocess.DEVNULL, stderr=open(home + ".log", "w"))

    def ready(self):
        for _ in range(600):
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2)
            except OSError:
                time.sleep(0.1)
        sys.exit("a server is not ready")

    def counts(self):
        """Returns the tokens that were computed and those that were reused."""
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics").read().decode()
        found = dict(re.findall(r'serve_prompt_tokens_total\{.*source="(\w+)"\} (\S+)', text))
        return float(found["computed"]), float(found["reused"])


def prompt(prefix, round):
    words = " ".join(f"{prefix * 7 + i}" for i in range(60))
    return [{"role": "system", "content": f"Rules {prefix}: {words}"}, {"role": "user", "content": f"Question {round}"}]


def ask(port, prefix, round, tokens=4):
    """Returns whether there was an answer, and whether it had begun."""
    begun = False
    try:
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        body = json.dumps({"model": "demo", "messages": prompt(prefix, round), "max_tokens": tokens, "stream": True})
        c.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = c.getresponse()
        text = b""
        while part := answer.read1():
            begun = answer.status == 200
            text += part
        return answer.status == 200 and b"[DONE]" in text, begun
    except (OSError, http.client.HTTPException):
        return False, begun


def load(port, rounds, tokens=4):
    """Asks with all prefixes in turn, some at the same time."""
    jobs = [(p, r) for r in range(rounds) for p in range(PREFIXES)]
    with concurrent.futures.ThreadPoolExecutor(3 * SLOTS) as pool:
        return list(pool.map(lambda job: ask(port, *job, tokens), jobs))


def share(servers, before):
    now = [s.counts() for s in servers]
    computed = sum(n[0] - b[0] for n, b in zip(now, before))
    reused = sum(n[1] - b[1] for n, b in zip(now, before))
    return reused / (computed + reused)


def main():
    with tempfile.TemporaryDirectory() as folder:
        started = [Server(folder, 3 * SLOTS)] + [Server(folder, SLOTS) for _ in range(3)]
        proxy = None
        try:
            for s in started:
                s.ready()
            one, three = started[0], started[1:]
            listen = free_port()
            names = {f"SERVE_{n}": f"127.0.0.1:{s.port}" for n, s in zip("ABC", three)}
            proxy = subprocess.Popen([HAPROXY, "-db", "-q", "-f", os.path.join(HERE, "haproxy.cfg")],
                                     env={**os.environ, **names, "LISTEN": f"127.0.0.1:{listen}"})
            for _ in range(100):
                if ask(listen, 1000, 0)[0]:
                    break
                time.sleep(0.1)

            before = [one.counts()]
            answers = load(one.port, ROUNDS)
            alone = share([one], before)
            before = [s.counts() for s in three]
            answers += load(listen, ROUNDS)
            behind = share(three, before)
            used = sum(s.counts()[0] > b[0] for s, b in zip(three, before))
            print(f"prompt tokens reused: {alone:.1%} by one server, {behind:.1%} by three ({behind / alone:.1%}); "
                  f"{used} of three were asked")
            if not all(done for done, _ in answers) or used < 2 or behind < 0.9 * alone:
                sys.exit("the three servers do not reuse what the one does")

            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                running = pool.submit(load, listen, ROUNDS, 64)
                time.sleep(1)
                three[0].process.kill()
                ends = running.result()
            lost = sum(not done and not begun for done, begun in ends)
            cut = sum(not done and begun for done, begun in ends)
            print(f"a server was killed during {len(ends)} requests: {lost} lost before their first byte, {cut} cut after it")
            if lost:
                sys.exit("requests were lost")
        finally:
            for p in [s.process for s in started] + ([proxy] if proxy else []):
                p.terminate()
            for p in [s.process for s in started] + ([proxy] if proxy else []):
                p.wait()


main()
