"""What the benchmarks that compare kelp with podman share: a fresh file system
for each round, and commands timed as an ordinary user."""
import glob, os, pwd, resource, signal, subprocess, sys, time

USER = os.environ.get("BENCH_USER", "kelp-test")


def quiet(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)


class Disk:
    """A fresh ext4 in memory at `place`, of which `image` is the file."""

    def __init__(self, place, image):
        self.place, self.image = place, image

    def __enter__(self):
        quiet("truncate", "-s", "8G", self.image)
        quiet("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", self.image)
        quiet("mount", "-o", "loop", self.image, self.place)
        os.remove(self.image)
        os.chmod(self.place, 0o1777)

    def __exit__(self, *_):
        # By their pids: kelp's own processes of this round, the last of which lingers, and podman's pause process.
        pids = [os.path.basename(path) for path in glob.glob(self.place + "/run/holders/*")]
        for path in glob.glob(self.place + "/*/libpod/tmp/pause.pid"):
            pids.append(open(path).read().strip())
        for pid in pids:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except (ProcessLookupError, ValueError):
                pass
        for _ in range(50):
            if subprocess.run(["umount", self.place], stderr=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.1)
        quiet("umount", "-l", self.place)


def reap_orphans():
    """Takes in what the command left to itself, so that its CPU is counted;
    what does not end (podman's pause process) is left."""
    patience = time.monotonic() + 0.5
    while time.monotonic() < patience:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
        except ChildProcessError:
            return


def as_user(place, command):
    """The command as the user, with all of its files at `place`."""
    home = pwd.getpwnam(USER).pw_dir
    return ["setpriv", "--reuid", USER, "--regid", USER, "--init-groups", "env", "-i", "HOME=" + home,
            "PATH=/usr/bin:/bin", "LANG=C.UTF-8", f"KELP_DATA={place}/data", f"KELP_RUN={place}/run",
            f"TMPDIR={place}"] + command


def run_timed(place, command):
    """Seconds of wall clock and of CPU, children included; runs as the user."""
    os.sync()
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(as_user(place, command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/")
    wall = time.perf_counter() - began
    reap_orphans()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"bench: {' '.join(command)}: {done.stdout.decode()[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
