//! Interfaces in network namespaces: root, ip(8), nc(1) and knockd's knock(1).

use std::fmt::Debug;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use postern::capture::{Error, Filter, Frame, Live};
use postern::config::{Port, Protocol, TcpFlags};
use postern::packet::{Arrival, Link, What, parse};

const LIMIT: Duration = Duration::from_secs(20);

const HERE: (IpAddr, IpAddr) = (
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
);
const THERE: (IpAddr, IpAddr) = (
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7)),
);

fn run(line: &str) {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap_or_else(|e| panic!("{line}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
}

/// Two namespaces of our own: this thread is in the one that has `here`, 192.0.2.1 and
/// 2001:db8::1; the other has `there`, .7 and ::7.
struct Net {
    here: String,
    there: String,
}

impl Net {
    fn new() -> Net {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        let net = Net {
            here: format!("packet-{id}-{n}-here"),
            there: format!("packet-{id}-{n}-there"),
        };
        for name in [&net.here, &net.there] {
            run(&format!("ip netns add {name}"));
            run(&format!("ip -n {name} link set lo up"));
        }
        let file = std::fs::File::open(format!("/run/netns/{}", net.here)).unwrap();
        setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
        net.plug();
        net
    }

    fn plug(&self) {
        let there = &self.there;
        run(&format!(
            "ip link add here type veth peer name there netns {there}"
        ));
        run("ip addr add 192.0.2.1/24 dev here");
        run("ip addr add 2001:db8::1/64 dev here nodad");
        run(&format!("ip -n {there} addr add 192.0.2.7/24 dev there"));
        run(&format!(
            "ip -n {there} addr add 2001:db8::7/64 dev there nodad"
        ));
        run("ip link set here up");
        run(&format!("ip -n {there} link set there up"));
    }

    fn there(&self, command: &str) {
        run(&format!("ip netns exec {} {command}", self.there));
    }

    /// One line of nc's standard input; nc fails when nobody answers.
    fn nc(&self, arguments: &str) {
        let line = format!("echo | ip netns exec {} nc {arguments}", self.there);
        Command::new("sh").args(["-c", &line]).output().unwrap();
    }

    /// Puts frames on the wire at the other end as they are.
    fn inject(&self, frames: &[Vec<u8>]) {
        let file = std::fs::File::open(format!("/run/netns/{}", self.there)).unwrap();
        let frames = frames.to_vec();
        // A thread of its own: a namespace is a thread's.
        std::thread::spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
            let mut wire = pcap::Capture::from_device("there").unwrap().open().unwrap();
            for frame in frames {
                wire.sendpacket(frame).unwrap();
            }
        })
        .join()
        .unwrap();
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in [&self.here, &self.there] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

fn tcp(number: u16) -> Port {
    Port {
        protocol: Protocol::Tcp,
        number,
    }
}

fn udp(number: u16) -> Port {
    Port {
        protocol: Protocol::Udp,
        number,
    }
}

/// 7143, 39001 by SYN, 2912 by UDP.
fn filter() -> Filter {
    Filter {
        ports: vec![tcp(7143), tcp(39001), udp(2912)],
        flags: Some(TcpFlags::REQUEST),
        echo: false,
        payload: 0,
    }
}

/// Waits for readiness, not longer than until `end`, as a listener would.
fn wait(live: &Live, end: Instant) {
    let mut left = end.saturating_duration_since(Instant::now());
    if let Some(recheck) = live.recheck() {
        left = left.min(recheck);
    }
    let mut fds = [PollFd::new(live.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::try_from(left).unwrap()).unwrap();
}

/// An arrival without what it carries.
fn head(arrival: Arrival<'_>) -> Arrival<'static> {
    let what = match arrival.what {
        What::Tcp { port, flags } => What::Tcp { port, flags },
        What::Udp { port, .. } => What::Udp { port, payload: &[] },
        What::Echo { .. } => What::Echo { payload: &[] },
    };
    let Arrival {
        time,
        source,
        destination,
        ..
    } = arrival;
    Arrival {
        time,
        source,
        destination,
        what,
    }
}

/// The next `n` arrivals.
fn arrivals(live: &mut Live, n: usize) -> Vec<Arrival<'static>> {
    let end = Instant::now() + LIMIT;
    let mut found = Vec::new();
    loop {
        let link = live.link();
        let each = |frame: Frame| found.extend(parse(frame.time, link, frame.bytes).map(head));
        let read = live.read(64, each).unwrap();
        if read > 0 {
            continue;
        }
        if found.len() >= n {
            return found;
        }
        assert!(Instant::now() < end, "{n} expected: {found:?}");
        wait(live, end);
    }
}

/// The error that ends the capture.
fn end(live: &mut Live) -> Error {
    let end = Instant::now() + LIMIT;
    loop {
        loop {
            match live.read(64, |_| ()) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return error,
            }
        }
        assert!(Instant::now() < end, "no error");
        wait(live, end);
    }
}

fn failed<T: Debug>(found: Result<Live, T>) -> T {
    match found {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

#[derive(Debug, PartialEq)]
struct Seen(IpAddr, IpAddr, Port);

fn seen(arrivals: &[Arrival]) -> Vec<Seen> {
    let port = |what| match what {
        What::Tcp { port, flags } => {
            assert_eq!(flags & 0x17, 0x02, "SYN");
            tcp(port)
        }
        What::Udp { port, .. } => udp(port),
        What::Echo { .. } => panic!("no ping"),
    };
    arrivals
        .iter()
        .map(|a| Seen(a.source, a.destination, port(a.what)))
        .collect()
}

#[test]
fn knocks_arrive() {
    let net = Net::new();
    let mut live = Live::open("here", &filter()).unwrap();
    assert_eq!(live.link(), Link::Ethernet);
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    net.there("knock -4 -d 5 192.0.2.1 7143 2912:udp 39001");
    net.there("knock -6 -d 5 2001:db8::1 7143 2912:udp 39001");
    net.nc("-z -w 1 192.0.2.1 39001");
    net.nc("-u -w 1 2001:db8::1 2912");

    let found = arrivals(&mut live, 8);
    let v4 = |port| Seen(THERE.0, HERE.0, port);
    let v6 = |port| Seen(THERE.1, HERE.1, port);
    let mut expected = vec![v4(tcp(7143)), v4(udp(2912)), v4(tcp(39001))];
    expected.extend([v6(tcp(7143)), v6(udp(2912)), v6(tcp(39001))]);
    expected.extend([v4(tcp(39001)), v6(udp(2912))]);
    assert_eq!(seen(&found), expected);

    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    for arrival in found {
        let time = u128::from(arrival.time.0);
        assert!((before.as_micros()..=after.as_micros()).contains(&time));
    }
}

/// A frame of TCP or UDP from .7 to .1 with those tags.
fn frame(tags: &[u16], protocol: u8, port: u16, flags: u8) -> Vec<u8> {
    let mut out = vec![0xff; 6];
    out.extend([2, 0, 0, 0, 0, 7]);
    for tag in tags {
        out.extend(tag.to_be_bytes());
        out.extend([0, 100]);
    }
    out.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0]);
    out.extend([192, 0, 2, 7, 192, 0, 2, 1]);
    let [high, low] = port.to_be_bytes();
    // UDP's length stands where TCP's sequence number does.
    out.extend([0x9c, 0x40, high, low, 0, 20, 0, 0, 0, 0, 0, 0]);
    out.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
    out
}

#[test]
fn tagged_frames_arrive() {
    let net = Net::new();
    let mut live = Live::open("here", &filter()).unwrap();
    let stacks: [&[u16]; 6] = [
        &[],
        &[0x8100],
        &[0x88a8],
        &[0x88a8, 0x8100],
        &[0x8100, 0x8100],
        &[0x88a8, 0x8100, 0x9100],
    ];
    let mut frames = Vec::new();
    for tags in stacks {
        frames.push(frame(tags, 6, 7143, 0x02));
        frames.push(frame(tags, 6, 7143, 0x10));
        frames.push(frame(tags, 6, 7144, 0x02));
        frames.push(frame(tags, 17, 2912, 0));
    }
    net.inject(&frames);
    let expected: Vec<Seen> = stacks
        .iter()
        .flat_map(|_| [tcp(7143), udp(2912)])
        .map(|port| Seen(THERE.0, HERE.0, port))
        .collect();
    assert_eq!(seen(&arrivals(&mut live, 12)), expected);
}

/// An IPv6 frame of UDP from ::7 to ::1 behind a destination options header of `8 * units`
/// bytes, with 1,000 bytes of payload.
fn long_frame(port: u16, units: u8) -> Vec<u8> {
    let mut out = vec![0xff; 6];
    out.extend([2, 0, 0, 0, 0, 7, 0x86, 0xdd, 0x60, 0, 0, 0]);
    let options = 8 * usize::from(units);
    out.extend(((options + 1008) as u16).to_be_bytes());
    out.extend([60, 64]);
    for address in [THERE.1, HERE.1] {
        let IpAddr::V6(address) = address else {
            panic!()
        };
        out.extend(address.octets());
    }
    let start = out.len();
    out.extend([17, units - 1, 1, 0]);
    out.resize(start + options, 0);
    let [high, low] = port.to_be_bytes();
    out.extend([
        0x9c,
        0x40,
        high,
        low,
        1008u16.to_be_bytes()[0],
        1008u16.to_be_bytes()[1],
        0,
        0,
    ]);
    out.resize(out.len() + 1000, 0x55);
    out
}

/// Of each frame 256 bytes are kept, of which 54 are Ethernet's and IPv6's and 6 must be UDP's.
#[test]
fn frames_longer_than_what_is_kept() {
    let net = Net::new();
    let mut live = Live::open("here", &filter()).unwrap();
    let frames: Vec<Vec<u8>> = (1..=30).map(|units| long_frame(2912, units)).collect();
    net.inject(&frames);
    net.inject(&[frame(&[], 17, 2912, 0)]);
    let mut whole = 0;
    let mut cut = 0;
    let end = Instant::now() + LIMIT;
    let mut last = false;
    while !last {
        let each = |frame: Frame| {
            let arrival = parse(frame.time, Link::Ethernet, frame.bytes);
            if frame.bytes.len() < 256 {
                match arrival {
                    Some(a) if a.source == THERE.0 => last = true,
                    other => assert_eq!(other, None, "a stray"),
                }
                return;
            }
            assert_eq!(frame.bytes.len(), 256);
            match arrival {
                Some(a) => {
                    assert_eq!(seen(&[a]), [Seen(THERE.1, HERE.1, udp(2912))]);
                    whole += 1;
                }
                None => cut += 1,
            }
        };
        live.read(64, each).unwrap();
        assert!(last || Instant::now() < end, "{whole} and {cut}");
        if !last {
            wait(&live, end);
        }
    }
    // 8 * 24 bytes of options leave 10.
    assert_eq!((whole, cut), (24, 6));
}

/// Frames that pass unasked: the kernel's own reports of multicast listeners begin with
/// hop-by-hop options, which the filter leaves to the parser.
const STRAY: u64 = 20;

#[test]
fn the_kernel_filters() {
    let net = Net::new();
    let mut live = Live::open("here", &filter()).unwrap();
    let mut frames: Vec<Vec<u8>> = (1..=300).map(|p| frame(&[], 17, p, 0)).collect();
    frames.extend((0..300).map(|_| frame(&[], 6, 7143, 0x10)));
    frames.push(frame(&[], 17, 2912, 0));
    for _ in 0..2 {
        net.inject(&frames);
        assert_eq!(arrivals(&mut live, 1).len(), 1);
    }
    let stats = live.stats().unwrap();
    assert!((2..STRAY).contains(&stats.received), "{stats:?}");
    assert_eq!(stats.dropped, 0);
}

#[test]
fn pings_arrive_with_what_they_carry() {
    const PATTERN: &str = "00112233445566778899aabbccddeeff";
    let net = Net::new();
    let wanted = Filter {
        echo: true,
        payload: 32,
        ..filter()
    };
    let mut live = Live::open("here", &wanted).unwrap();
    for host in ["192.0.2.1", "2001:db8::1"] {
        net.there(&format!("ping -n -c 1 -s 1000 -p {PATTERN} {host}"));
    }
    let end = Instant::now() + LIMIT;
    let mut found = Vec::new();
    let link = live.link();
    while found.len() < 2 {
        let each = |frame: Frame| {
            let arrival = parse(frame.time, link, frame.bytes);
            if let Some(What::Echo { payload }) = arrival.map(|arrival| arrival.what) {
                found.push(payload.to_vec());
            }
        };
        live.read(64, each).unwrap();
        assert!(Instant::now() < end, "two expected: {found:?}");
        wait(&live, end);
    }
    let pattern: Vec<u8> = (0..16).map(|n| 0x11 * n).collect();
    for payload in found {
        assert_eq!(payload[16..32], pattern);
        assert!(payload.len() < 1000, "the rest is cut off");
    }
}

#[test]
fn no_ports_let_nothing_through() {
    let net = Net::new();
    let none = Filter {
        ports: Vec::new(),
        flags: None,
        echo: false,
        payload: 0,
    };
    let mut deaf = Live::open("here", &none).unwrap();
    let mut live = Live::open("here", &filter()).unwrap();
    net.inject(&[frame(&[], 6, 7143, 0x02)]);
    assert_eq!(arrivals(&mut live, 1).len(), 1);
    assert_eq!(deaf.stats().unwrap().received, 0);
}

#[test]
fn thousands_of_ports_on_every_kind_of_interface() {
    let net = Net::new();
    let wide = Filter {
        ports: (0..3000).map(|n| udp(1 + 21 * n)).collect(),
        flags: Some(TcpFlags::REQUEST),
        echo: false,
        payload: 0,
    };
    for name in ["here", "lo", "any"] {
        let mut live = Live::open(name, &wide).unwrap();
        if name != "lo" {
            let mut frames = vec![frame(&[], 6, 1, 0x10); 300];
            frames.push(frame(&[], 17, 1 + 21 * 1500, 0));
            net.inject(&frames);
            assert_eq!(
                seen(&arrivals(&mut live, 1)),
                [Seen(THERE.0, HERE.0, udp(1 + 21 * 1500))]
            );
            assert!(live.stats().unwrap().received < STRAY, "{name}");
        }
    }
}

#[test]
fn loopback() {
    let _net = Net::new();
    let mut live = Live::open("lo", &filter()).unwrap();
    assert_eq!(live.link(), Link::Ethernet);
    for host in ["127.0.0.1", "::1"] {
        let host: IpAddr = host.parse().unwrap();
        let _ = TcpStream::connect(SocketAddr::new(host, 7143));
        let any: IpAddr = if host.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.send_to(&[0], (host, 2912)).unwrap();
        assert_eq!(
            seen(&arrivals(&mut live, 2)),
            [Seen(host, host, tcp(7143)), Seen(host, host, udp(2912))]
        );
    }
}

#[test]
fn any_interface_cooked() {
    let net = Net::new();
    let mut live = Live::open("any", &filter()).unwrap();
    assert_eq!(live.link(), Link::Cooked);
    net.there("knock -4 -d 5 192.0.2.1 7143 2912:udp");
    net.there("knock -6 -d 5 2001:db8::1 7143 2912:udp");
    assert_eq!(
        seen(&arrivals(&mut live, 4)),
        [
            Seen(THERE.0, HERE.0, tcp(7143)),
            Seen(THERE.0, HERE.0, udp(2912)),
            Seen(THERE.1, HERE.1, tcp(7143)),
            Seen(THERE.1, HERE.1, udp(2912)),
        ]
    );

    assert!(live.stats().unwrap().received < STRAY);

    // One tag. Of two, Linux 6.10 and later leave the inner one out of the cooked header and in
    // the packet, which nobody can read.
    net.inject(&[frame(&[0x8100], 17, 2913, 0), frame(&[0x8100], 17, 2912, 0)]);
    assert_eq!(
        seen(&arrivals(&mut live, 1)),
        [Seen(THERE.0, HERE.0, udp(2912))]
    );
}

/// An interface without link headers, whose other end is the returned file.
fn tun(name: &str) -> std::fs::File {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .unwrap();
    // struct ifreq: the name, then flags IFF_TUN | IFF_NO_PI (linux/if_tun.h).
    let mut request = [0u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&0x1001u16.to_ne_bytes());
    const TUNSETIFF: nix::libc::Ioctl = 0x4004_54ca;
    // SAFETY: TUNSETIFF reads and writes one struct ifreq, 40 bytes, which `request` is.
    let status = unsafe { nix::libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
    assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
    file
}

#[test]
fn tunnel_without_link_headers() {
    let _net = Net::new();
    let mut wire = tun("tun7");
    run("ip link set tun7 up");
    let mut live = Live::open("tun7", &filter()).unwrap();
    assert_eq!(live.link(), Link::Raw);
    for _ in 0..300 {
        wire.write_all(&frame(&[], 6, 7144, 0x02)[14..]).unwrap();
    }
    wire.write_all(&frame(&[], 6, 7143, 0x02)[14..]).unwrap();
    assert_eq!(
        seen(&arrivals(&mut live, 1)),
        [Seen(THERE.0, HERE.0, tcp(7143))]
    );
    assert!(live.stats().unwrap().received < STRAY);
    drop(wire);
    assert_eq!(end(&mut live), Error::Gone("tun7".into()));
}

#[test]
fn a_missing_interface() {
    let _net = Net::new();
    let error = failed(Live::open("nowhere0", &filter()));
    assert_eq!(error, Error::Missing("nowhere0".into()));
    assert!(error.passes());
}

#[test]
fn an_interface_removed() {
    let _net = Net::new();
    let mut live = Live::open("here", &filter()).unwrap();
    run("ip link del here");
    let error = end(&mut live);
    assert_eq!(error, Error::Gone("here".into()));
    assert!(error.passes());
    // And again, if anyone asks.
    assert_eq!(end(&mut live), Error::Gone("here".into()));
    assert_eq!(
        failed(Live::open("here", &filter())),
        Error::Missing("here".into())
    );
}

#[test]
fn an_interface_replaced_by_another_of_its_name() {
    let net = Net::new();
    let mut live = Live::open("here", &filter()).unwrap();
    run("ip link del here");
    net.plug();
    assert_eq!(end(&mut live), Error::Gone("here".into()));
    let mut live = Live::open("here", &filter()).unwrap();
    net.there("knock -4 192.0.2.1 7143");
    assert_eq!(arrivals(&mut live, 1).len(), 1);
}

#[test]
fn an_interface_down_and_then_removed() {
    let _net = Net::new();
    let mut live = Live::open("here", &filter()).unwrap();
    run("ip link set here down");
    let end_of_wait = Instant::now() + LIMIT;
    while live.recheck().is_none() {
        assert!(Instant::now() < end_of_wait, "down goes unnoticed");
        while live.read(64, |_| ()).unwrap() > 0 {}
        wait(&live, end_of_wait);
    }
    // Nor does it keep us busy.
    let mut fds = [PollFd::new(live.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::ZERO), Ok(0));
    run("ip link del here");
    assert_eq!(end(&mut live), Error::Gone("here".into()));
}

#[test]
fn an_interface_down_and_up_again() {
    let net = Net::new();
    let mut live = Live::open("here", &filter()).unwrap();
    net.there("knock -4 192.0.2.1 7143");
    assert_eq!(arrivals(&mut live, 1).len(), 1);
    run("ip link set here down");
    while live.read(64, |_| ()).unwrap() > 0 {}
    assert_eq!(
        failed(Live::open("here", &filter())),
        Error::Down("here".into())
    );
    run("ip link set here up");
    net.inject(&[frame(&[], 6, 39001, 0x02)]);
    assert_eq!(
        seen(&arrivals(&mut live, 1)),
        [Seen(THERE.0, HERE.0, tcp(39001))]
    );
    assert_eq!(live.recheck(), None);
}
