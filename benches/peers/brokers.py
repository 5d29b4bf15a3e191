"""Starts three nodes of each broker on loopback, in a directory of its own, and stops what it started."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

HOST = "127.0.0.1"
NODES = 3
READY_SECONDS = 60
STOP_SECONDS = 15
# PostgreSQL refuses to run as root; this is the user of its package.
POSTGRESQL_USER = "postgres"
# A broker does not outlive this program, however it ends.
TIED = ("setpriv", "--pdeathsig", "TERM")


def free_ports(count):
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind((HOST, 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_until(ready, what, seconds=READY_SECONDS):
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            raise RuntimeError(f"{what} after {seconds} s")
        time.sleep(0.2)


def listening(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


class Broker:
    """Three nodes. `servers` is what the load generator connects to."""

    name = ""
    program = ""
    # What an acknowledgement means, for the reader of the figures.
    promise = ""

    def __init__(self, directory):
        self.directory = Path(directory) / self.name
        self.directory.mkdir(parents=True)
        self.processes = []
        self.servers = []

    @classmethod
    def found(cls):
        """The program's path, or none."""
        return shutil.which(cls.program)

    def spawn(self, arguments, label, env=None):
        log = open(self.directory / f"{label}.log", "ab")
        # A session of its own, so that children end with it.
        process = subprocess.Popen(
            [*TIED, *(str(a) for a in arguments)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        log.close()
        self.processes.append(process)
        return process

    def pids(self):
        return [process.pid for process in self.processes]

    def start(self):
        raise NotImplementedError

    def version(self):
        raise NotImplementedError

    def stop(self):
        for how, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            alive = [process for process in self.processes if process.poll() is None]
            for process in alive:
                try:
                    os.killpg(process.pid, how)
                except ProcessLookupError:
                    pass
            for process in alive:
                try:
                    process.wait(patience)
                except subprocess.TimeoutExpired:
                    pass
        self.processes = []


def output_of(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()


class Nats(Broker):
    name = "nats"
    program = "nats-server"
    promise = "written by a majority, synced to disk every two minutes (the default)"

    def version(self):
        return output_of(self.program, "--version")

    def start(self):
        clients, routes = free_ports(NODES), free_ports(NODES)
        joined = ",".join(f"nats://{HOST}:{port}" for port in routes)
        for n in range(NODES):
            self.spawn(
                [
                    self.program, "--addr", HOST, "--port", clients[n], "--jetstream",
                    "--store_dir", self.directory / f"data-{n}", "--server_name", f"n{n}",
                    "--cluster_name", "bench", "--cluster", f"nats://{HOST}:{routes[n]}", "--routes", joined,
                ],
                f"node-{n}",
            )
        for port in clients:
            wait_until(lambda port=port: listening(port), "NATS does not listen")
        wait_until(self._elected, "JetStream has no leader")
        self.servers = [f"nats://{HOST}:{port}" for port in clients]

    def _elected(self):
        logs = self.directory.glob("node-*.log")
        return any("JetStream cluster new metadata leader" in log.read_text(errors="replace") for log in logs)


class Etcd(Broker):
    name = "etcd"
    program = "etcd"
    promise = "synced to disk by a majority"

    def version(self):
        return output_of(self.program, "--version").splitlines()[0]

    def start(self):
        clients, peers = free_ports(NODES), free_ports(NODES)
        cluster = ",".join(f"n{n}=http://{HOST}:{peers[n]}" for n in range(NODES))
        for n in range(NODES):
            self.spawn(
                [
                    self.program, "--name", f"n{n}", "--data-dir", self.directory / f"data-{n}",
                    "--listen-client-urls", f"http://{HOST}:{clients[n]}",
                    "--advertise-client-urls", f"http://{HOST}:{clients[n]}",
                    "--listen-peer-urls", f"http://{HOST}:{peers[n]}",
                    "--initial-advertise-peer-urls", f"http://{HOST}:{peers[n]}",
                    "--initial-cluster", cluster, "--initial-cluster-state", "new",
                ],
                f"node-{n}",
            )
        for port in clients:
            wait_until(lambda port=port: listening(port), "etcd does not listen")
        self.servers = [f"http://{HOST}:{port}" for port in clients]


class Rabbitmq(Broker):
    name = "rabbitmq"
    program = "rabbitmq-server"
    promise = "synced to disk by a majority (quorum queue, publisher confirm)"

    def __init__(self, directory):
        super().__init__(directory)
        self.epmd = None

    @classmethod
    def found(cls):
        # The packaged wrapper insists on its own user; the script behind it does not.
        scripts = sorted(Path("/usr/lib/rabbitmq").glob("lib/*/sbin/rabbitmq-server"))
        return str(scripts[-1]) if scripts else None

    def _tool(self, name):
        return str(Path(self.found()).with_name(name))

    def version(self):
        return "RabbitMQ " + Path(self.found()).parent.parent.name.removeprefix("rabbitmq_server-")

    def _env(self, n):
        home = self.directory / f"node-{n}"
        return {
            "HOME": str(self.directory),
            "ERL_EPMD_PORT": str(self.epmd),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": f"bench{n}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.ports[n]),
            "RABBITMQ_DIST_PORT": str(self.distribution[n]),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        }

    def _ctl(self, n, *arguments):
        subprocess.run(
            [self._tool("rabbitmqctl"), "--node", f"bench{n}@localhost", *arguments],
            env={**os.environ, **self._env(n)},
            check=True,
            capture_output=True,
            timeout=READY_SECONDS,
        )

    def start(self):
        self.ports, self.distribution, (self.epmd,) = free_ports(NODES), free_ports(NODES), free_ports(1)
        # The port mapper of Erlang would outlive the nodes if they started it.
        self.spawn(["epmd", "-port", self.epmd, "-address", HOST], "epmd")
        wait_until(lambda: listening(self.epmd), "epmd does not listen")
        for n in range(NODES):
            home = self.directory / f"node-{n}"
            home.mkdir()
            (home / "plugins").write_text("[].\n")
            (home / "rabbitmq.conf").write_text("log.console.level = warning\n")
            self.spawn([self.found()], f"node-{n}", self._env(n))
            # One after the other: the first one writes the cookie that the others read.
            wait_until(lambda n=n: listening(self.ports[n]), "RabbitMQ does not listen")
        for n in range(1, NODES):
            self._ctl(n, "stop_app")
            self._ctl(n, "join_cluster", "bench0@localhost")
            self._ctl(n, "start_app")
        self.servers = [f"amqp://guest:guest@{HOST}:{port}/%2f" for port in self.ports]


class Postgresql(Broker):
    name = "postgresql"
    program = "postgres"
    promise = "synced to disk by the primary and by one of two standbys"

    @classmethod
    def found(cls):
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        return str(programs[-1]) if programs else None

    def _tool(self, name):
        return str(Path(self.found()).with_name(name))

    def version(self):
        return output_of(self.found(), "--version")

    def _as_user(self, *arguments):
        """PostgreSQL refuses to run as root."""
        if os.geteuid() != 0:
            return list(arguments)
        user = (f"--reuid={POSTGRESQL_USER}", f"--regid={POSTGRESQL_USER}", "--clear-groups")
        # Tied again: the kernel unties a process that changes its user.
        return [*TIED, *user, *arguments]

    def _run(self, *arguments):
        subprocess.run(
            [str(a) for a in self._as_user(*arguments)], check=True, capture_output=True, timeout=READY_SECONDS
        )

    def start(self):
        ports = free_ports(NODES)
        if os.geteuid() == 0:
            shutil.chown(self.directory, POSTGRESQL_USER)
        primary = self.directory / "data-0"
        self._run(self._tool("initdb"), "--pgdata", primary, "--auth", "trust", "--username", "bench")
        with open(primary / "postgresql.conf", "a") as config:
            config.write(
                f"listen_addresses = '{HOST}'\nunix_socket_directories = ''\nmax_connections = 100\n"
                "synchronous_commit = on\nmax_wal_senders = 8\n"
            )
        self._serve(0, ports[0])
        for n in range(1, NODES):
            self._run(
                self._tool("pg_basebackup"), "--pgdata", self.directory / f"data-{n}", "--write-recovery-conf",
                "--dbname", f"host={HOST} port={ports[0]} user=bench application_name=standby{n}",
            )
            self._serve(n, ports[n])
        # Only now: without standbys nothing would commit.
        with open(primary / "postgresql.conf", "a") as config:
            config.write("synchronous_standby_names = 'ANY 1 (standby1, standby2)'\n")
        os.kill(self.processes[0].pid, signal.SIGHUP)
        self.servers = [f"host={HOST} port={ports[0]} user=bench dbname=postgres"]

    def _serve(self, n, port):
        data = self.directory / f"data-{n}"
        self.spawn(self._as_user(self.found(), "-D", str(data), "-p", str(port)), f"node-{n}")
        wait_until(
            lambda: subprocess.run(
                [self._tool("pg_isready"), "-q", "-h", HOST, "-p", str(port)], check=False
            ).returncode == 0,
            "PostgreSQL does not answer",
        )


ALL = (Nats, Rabbitmq, Etcd, Postgresql)
