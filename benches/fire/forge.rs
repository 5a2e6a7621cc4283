//! Packets of a flood, each from another source: made by rewriting a few bytes of the one before.

/// Where the IPv4 header begins in a frame, and what stands where in it and behind it.
const IP: usize = 14;
const IP_SUM: usize = IP + 10;
const SOURCE: usize = IP + 12;
const TRANSPORT: usize = IP + 20;
const PORT: usize = TRANSPORT + 2;
const TCP_SUM: usize = TRANSPORT + 16;
const UDP_PAYLOAD: usize = TRANSPORT + 8;
/// Which characters of a forged single packet differ from one to the next: behind what an
/// encrypted packet begins with, before its HMAC.
const VARIED: std::ops::Range<usize> = UDP_PAYLOAD + 32..UDP_PAYLOAD + 40;

/// What is forged.
#[derive(Clone)]
pub struct Forger {
    frame: Vec<u8>,
    sources: u64,
    ports: Vec<u16>,
    tcp: bool,
    /// Sums of the headers without source, port and checksum.
    ip: u32,
    transport: u32,
}

impl Forger {
    /// Connection requests like this one, from so many sources in turn, to these ports. A source
    /// hits them backwards, one each time that its turn comes, so that it never knocks rightly.
    pub fn requests(frame: Vec<u8>, sources: u64, ports: &[u16]) -> Forger {
        Forger::new(frame, sources, ports, true)
    }

    /// Single packets like this one.
    pub fn datagrams(frame: Vec<u8>, sources: u64, port: u16) -> Forger {
        Forger::new(frame, sources, &[port], false)
    }

    fn new(mut frame: Vec<u8>, sources: u64, ports: &[u16], tcp: bool) -> Forger {
        frame[IP_SUM..IP_SUM + 2].fill(0);
        frame[SOURCE..SOURCE + 4].fill(0);
        frame[PORT..PORT + 2].fill(0);
        let mut transport = 0;
        if tcp {
            frame[TCP_SUM..TCP_SUM + 2].fill(0);
            let length = (frame.len() - TRANSPORT) as u32;
            // With the destination, protocol and length of the pseudo header (RFC 9293, 3.1).
            transport = words(&frame[SOURCE + 4..]) + 6 + length;
        }
        Forger {
            ip: words(&frame[IP..TRANSPORT]),
            transport,
            sources,
            ports: ports.to_vec(),
            tcp,
            frame,
        }
    }

    /// A frame for [`Forger::write`].
    pub fn template(&self) -> Vec<u8> {
        self.frame.clone()
    }

    /// Makes the frame the nth one.
    pub fn write(&self, n: u64, frame: &mut [u8]) {
        let source = stranger(n % self.sources);
        let ports = self.ports.len() as u64;
        let turn = n + (n / self.sources) * (ports - 1);
        let port = self.ports[(turn % ports) as usize];
        let of_source = (source >> 16) + (source & 0xffff);
        frame[SOURCE..SOURCE + 4].copy_from_slice(&source.to_be_bytes());
        frame[PORT..PORT + 2].copy_from_slice(&port.to_be_bytes());
        let sum = fold(self.ip + of_source);
        frame[IP_SUM..IP_SUM + 2].copy_from_slice(&sum.to_be_bytes());
        if self.tcp {
            let sum = fold(self.transport + of_source + u32::from(port));
            frame[TCP_SUM..TCP_SUM + 2].copy_from_slice(&sum.to_be_bytes());
        } else {
            let letters = frame[VARIED].iter_mut();
            letters.enumerate().for_each(|(i, letter)| {
                *letter = b'A' + (n >> (4 * i) & 15) as u8;
            });
        }
    }
}

/// An address outside of every network here, another one for each number below 2^24.
fn stranger(n: u64) -> u32 {
    0x0b00_0000 | ((n as u32).wrapping_mul(0x9e37_79b1) & 0x00ff_ffff)
}

/// The sum of the 16-bit words, of even length.
fn words(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2);
    words
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum()
}

/// The checksum of a sum of words (RFC 1071).
pub fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}
