//! Names, as a container looks them up: kelp runs on a host that is a set of
//! namespaces of the test's own, with an /etc/resolv.conf and servers that the
//! test knows (`examples/names.rs`).

use std::path::{Path, PathBuf};

use super::harness::needs::{needs, works};
use super::harness::{Home, kelp_binary};

fn names_binary() -> PathBuf {
    let path = kelp_binary().parent().unwrap().join("examples/names");
    assert!(path.exists(), "{} is missing: cargo build --example names", path.display());
    path
}

fn has_all() -> bool {
    kelp::host::no_tun().is_none() && works("/usr/bin/unshare", &["-Urnm", "true"])
}

macro_rules! needs_host {
    () => {
        needs!(has_all(), "no /dev/net/tun that a user can open, or unshare -Urnm does not work here");
    };
}

/// What a script says that runs on a host with servers at 127.0.0.1, 127.0.0.2
/// and ::1, of which it asks the first. `$run` runs the probe, `$k` is kelp;
/// what the servers were asked is in the file `$log`.
fn on_a_host(home: &Home, script: &str) -> Vec<String> {
    let etc = home.make_dir("etc");
    for file in ["passwd", "group"] {
        std::fs::copy(Path::new("/etc").join(file), etc.join(file)).unwrap();
    }
    std::fs::write(etc.join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    let (kelp, rootfs, names) = (kelp_binary(), home.rootfs(), names_binary());
    let script = format!(
        "mount --bind {} /etc; ip link set lo up
         log={}; {} 127.0.0.1 127.0.0.2 ::1 >$log & trap 'kill $!' EXIT
         until grep -q ready $log; do sleep 0.01; done
         k={}; run() {{ options=$1; shift; $k run --rm $options --rootfs {rootfs} /probe \"$@\"; }}
         keep() {{ $k run -d --rm --name one --rootfs {rootfs} /probe forever >/dev/null; }}
         ask='lookup udp 10.87.0.1'
         {script}",
        etc.display(),
        home.path("log").display(),
        names.display(),
        kelp.display(),
        rootfs = rootfs.display(),
    );
    let mut call = home.call(Path::new("/usr/bin/unshare"), &["-Urnm", "bash", "-euc", &script]);
    call.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    call.succeed().lines().map(str::to_owned).collect()
}

#[test]
fn questions_are_passed_on_as_they_are() {
    needs_host!();
    let home = Home::new();
    let said = on_a_host(
        &home,
        "run '' $ask WwW.Example A + $ask www.example AAAA 1232 + $ask www.example MX + $ask gone.example A \
         + $ask fail.example A + $ask forged.example A + lookup udp fd6b:656c:7000::1 www.example A \
         + lookup tcp 10.87.0.1 www.example A + lookup tcp fd6b:656c:7000::1 www.example AAAA
         cat $log",
    );
    let (answers, asked) = said.split_at(9);
    assert_eq!(
        answers,
        [
            "NOERROR WwW.Example 192.0.2.1",
            "NOERROR www.example 2001:db8::1",
            "NOERROR www.example",
            "NXDOMAIN gone.example",
            "SERVFAIL fail.example",
            "NOERROR forged.example 192.0.2.1",
            "NOERROR www.example 192.0.2.1",
            "NOERROR www.example 192.0.2.1",
            "NOERROR www.example 2001:db8::1",
        ]
    );
    assert_eq!(asked[..2], ["ready", "udp 127.0.0.1 WwW.Example A"]);
    assert_eq!(asked.len(), 10, "{asked:?}");
}

#[test]
fn answers_larger_than_a_datagram_are_whole_by_tcp() {
    needs_host!();
    let home = Home::new();
    let said = on_a_host(
        &home,
        "run '' $ask many.example A + $ask many.example A 1232 + $ask many.example A 4096 \
         + lookup tcp 10.87.0.1 many.example A
         grep tcp $log",
    );
    assert_eq!(
        said,
        [
            "NOERROR cut many.example",
            "NOERROR cut many.example",
            "NOERROR many.example 100 records",
            "NOERROR many.example 100 records",
            "tcp 127.0.0.1 many.example A",
        ]
    );
}

#[test]
fn own_names_need_nobody() {
    needs_host!();
    let home = Home::new();
    let said = on_a_host(
        &home,
        "run '--egress none --name shop --add-host db:192.0.2.7 --add-host six:2001:db8::7' \
         $ask host.docker.internal A + $ask HOST.kelp.internal AAAA + $ask host.kelp.internal MX \
         + $ask db A + $ask db AAAA + $ask six AAAA + lookup tcp 10.87.0.1 db A \
         + $ask 1.0.87.10.in-addr.arpa PTR + $ask 2.0.87.10.in-addr.arpa PTR + $ask 9.0.87.10.in-addr.arpa PTR \
         + $ask www.example A
         cat $log",
    );
    assert_eq!(
        said,
        [
            "NOERROR host.docker.internal 10.87.0.1",
            "NOERROR HOST.kelp.internal fd6b:656c:7000::1",
            "NOERROR host.kelp.internal",
            "NOERROR db 192.0.2.7",
            "NOERROR db",
            "NOERROR six 2001:db8::7",
            "NOERROR db 192.0.2.7",
            "NOERROR 1.0.87.10.in-addr.arpa host.kelp.internal.",
            "NOERROR 2.0.87.10.in-addr.arpa shop.",
            "NXDOMAIN 9.0.87.10.in-addr.arpa",
            // With no way out nobody is asked.
            "REFUSED www.example",
            "ready",
        ]
    );
}

#[test]
fn the_hosts_file_is_followed_as_it_changes() {
    needs_host!();
    let home = Home::new();
    // Written anew, replaced, and made a link: the ways of editors, of NetworkManager and of systemd-resolved.
    let said = on_a_host(
        &home,
        "keep; ask() { $k exec one /probe $ask www.example A; }
         follow() { for try in $(seq 1 400); do case $(ask) in *$1) break ;; esac; done; ask; }
         ask
         echo nameserver 127.0.0.2 >/etc/resolv.conf; follow .2
         printf 'options timeout:1\\nnameserver ::1\\nsearch a.example\\n' >/etc/new
         mv /etc/new /etc/resolv.conf; follow .1; tail -n1 $log
         mkdir /etc/run; echo nameserver 127.0.0.1 >/etc/run/stub; ln -s run/stub /etc/link
         mv /etc/link /etc/resolv.conf
         until ask | grep -q . && tail -n1 $log | grep -q 127.0.0.1; do :; done
         echo nameserver 127.0.0.2 >/etc/run/stub; follow .2
         $k rm -f one >/dev/null",
    );
    let answer = |last: u8| format!("NOERROR www.example 192.0.2.{last}");
    assert_eq!(said, [answer(1), answer(2), answer(1), "udp ::1 www.example A".to_owned(), answer(2)]);
}

#[test]
fn servers_that_fail_are_passed_over() {
    needs_host!();
    let home = Home::new();
    let said = on_a_host(
        &home,
        "printf 'nameserver 127.0.0.9\\nnameserver 127.0.0.2\\n' >/etc/resolv.conf
         run '' $ask www.example A
         printf 'nameserver 127.0.0.1\\nnameserver 127.0.0.2\\noptions timeout:1 attempts:1\\n' >/etc/resolv.conf
         run '' $ask silent.example A + $ask fail.example A
         grep -E 'silent|fail' $log
         echo nameserver 127.0.0.9 >/etc/resolv.conf
         run '' $ask www.example A + lookup tcp 10.87.0.1 www.example A
         : >/etc/resolv.conf
         run '' $ask www.example A
         kill %1; run '' $ask www.example A; trap - EXIT",
    );
    assert_eq!(
        said,
        [
            "NOERROR www.example 192.0.2.2",
            "SERVFAIL silent.example",
            "SERVFAIL fail.example",
            "udp 127.0.0.1 silent.example A",
            "udp 127.0.0.2 silent.example A",
            "udp 127.0.0.1 fail.example A",
            "udp 127.0.0.2 fail.example A",
            "SERVFAIL www.example",
            "SERVFAIL www.example",
            // A file that names nobody means the host itself.
            "NOERROR www.example 192.0.2.1",
            "SERVFAIL www.example",
        ]
    );
}

#[test]
fn servers_that_the_user_names_are_asked_instead() {
    needs_host!();
    let home = Home::new();
    let said = on_a_host(
        &home,
        "run '--dns 127.0.0.2 --allow-host-loopback=53' $ask www.example A
         run '--dns ::1 --allow-host-loopback' $ask www.example AAAA
         run '--dns 10.87.0.1 --allow-host-loopback --egress none' $ask www.example A
         run '--dns 169.254.169.254' $ask www.example A + $ask host.docker.internal A
         run '--dns 127.0.0.2' exit 0 2>&1 | tail -n2",
    );
    assert_eq!(
        said,
        [
            "NOERROR www.example 192.0.2.2",
            "NOERROR www.example 2001:db8::1",
            // The gateway stands for the host.
            "NOERROR www.example 192.0.2.1",
            // Not reached by the container, and so not asked for it.
            "REFUSED www.example",
            "NOERROR host.docker.internal 10.87.0.1",
            "kelp: cannot use --dns 127.0.0.2: it is on the host's loopback, which the container does not reach",
            "hint: add --allow-host-loopback=53",
        ]
    );
}
