//! A line of text -> a payload; a payload's shape, its HMAC, the line again.

use std::fmt;

use aes::Aes256;
use base64ct::{Base64Unpadded, Encoding};
use cbc::cipher::{Block, BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use hmac::{Hmac, KeyInit, Mac as _};
use md5::{Digest, Md5};
use sha2::{Sha256, Sha512};
use zeroize::Zeroize;

use super::text;
use super::{Mac, Request, Secret};

/// What the base64 of "Salted__" begins with. It is not sent, but the HMAC covers it.
const PREFIX: &[u8; 10] = b"U2FsdGVkX1";

/// What stands before the cipher text: OpenSSL's mark, then the salt.
const MARK: &[u8; 8] = b"Salted__";
const HEAD: usize = 16;

/// AES's block.
const BLOCK: usize = 16;

/// The shortest payload (fwknopd's MIN_SPA_DATA_SIZE), in bytes.
pub const SHORTEST: usize = 140;

/// The longest payload of a request that is accepted: all fields as long as they may be, under
/// HMAC-SHA512. fwknop's own limit is 1500 bytes, for NAT and commands.
pub const LONGEST: usize =
    text::base64(HEAD + padded(text::LONGEST)) - PREFIX.len() + text::base64(64);

/// A payload that no key sealed, of the shape of one with this kind of HMAC and as long as it can
/// be: what a look at one costs at most.
pub fn longest(mac: Mac) -> Vec<u8> {
    let bytes = match mac {
        Mac::Sha256 => 32,
        Mac::Sha512 => 64,
    };
    let mut payload = vec![b'A'; LONGEST - text::base64(64) + text::base64(bytes)];
    payload[0] = b'8';
    payload
}

/// A text's length with its padding, of 1 to 16 bytes.
const fn padded(len: usize) -> usize {
    (len / BLOCK + 1) * BLOCK
}

/// Makes a packet's payload. `random`: 8 bytes of salt, 16 for the number in the text. With the
/// same ones a request makes the same packet, which is refused as a replay.
///
/// What fwknop does not let be is made to fit, so that there is always a payload: strange
/// characters of the user's name, a time of more than [`super::MOST_LASTS`]; ports beyond
/// [`super::MOST_PORTS`] are left out, which whoever reads them from somewhere has to prevent.
pub fn seal(secret: &Secret, request: &Request, random: &[u8; 24]) -> Vec<u8> {
    let (salt, number) = random.split_first_chunk().expect("24 bytes begin with 8");
    let number = number.first_chunk().expect("and end with 16");
    seal_text(secret, text::write(request, number).as_bytes(), salt)
}

/// Seals any text, whether it is a request or not: for tests of what reads it.
pub fn seal_text(secret: &Secret, text: &[u8], salt: &[u8; 8]) -> Vec<u8> {
    let padding = padded(text.len()) - text.len();
    let mut bytes = [MARK, &salt[..], text].concat();
    // At most 16.
    bytes.resize(bytes.len() + padding, padding as u8);
    let derived = Derived::new(&secret.cipher, salt);
    let mut cipher = cbc::Encryptor::<Aes256>::new(&derived.key.into(), &derived.iv.into());
    cipher.encrypt_blocks(blocks(&mut bytes[HEAD..]));
    let encoded = Base64Unpadded::encode_string(&bytes);
    let mut payload = encoded.as_bytes()[PREFIX.len()..].to_vec();
    let mac = match Keyed::new(secret) {
        Keyed::Sha256(mac) => mac.chain_update(&payload).finalize().into_bytes().to_vec(),
        Keyed::Sha512(mac) => mac.chain_update(&payload).finalize().into_bytes().to_vec(),
    };
    payload.extend_from_slice(Base64Unpadded::encode_string(&mac).as_bytes());
    payload
}

/// Whole blocks.
fn blocks(bytes: &mut [u8]) -> &mut [Block<Aes256>] {
    Block::<Aes256>::slice_as_chunks_mut(bytes).0
}

/// What is made of cipher key and salt, as `openssl enc -md md5` does: MD5 over and over.
struct Derived {
    key: [u8; 32],
    iv: [u8; 16],
}

impl Derived {
    fn new(cipher_key: &[u8], salt: &[u8]) -> Derived {
        let next = |before: &[u8]| -> [u8; 16] {
            let md5 = Md5::new_with_prefix(before);
            md5.chain_update(cipher_key)
                .chain_update(salt)
                .finalize()
                .into()
        };
        let mut first = next(&[]);
        let mut second = next(&first);
        let iv = next(&second);
        let mut key = [0; 32];
        key[..16].copy_from_slice(&first);
        key[16..].copy_from_slice(&second);
        first.zeroize();
        second.zeroize();
        Derived { key, iv }
    }
}

impl Drop for Derived {
    fn drop(&mut self) {
        self.key.zeroize();
        self.iv.zeroize();
    }
}

/// A payload that could be a packet's: see [`shape`].
#[derive(Clone, Copy)]
pub struct Shaped<'p> {
    /// As if its HMAC was SHA256's: what that covers, and what it is.
    sha256: Option<(&'p [u8], [u8; 32])>,
    /// The same for SHA512. A few lengths can be either's.
    sha512: Option<(&'p [u8], [u8; 64])>,
}

impl Shaped<'_> {
    /// Whether its length is one with this kind of HMAC: for others there is nothing to compute.
    pub fn can_be(&self, mac: Mac) -> bool {
        match mac {
            Mac::Sha256 => self.sha256.is_some(),
            Mac::Sha512 => self.sha512.is_some(),
        }
    }
}

/// The first look at a payload, before any HMAC: its length, that of the cipher text in whole
/// blocks, its alphabet, the four bits of "Salted__" that are sent, the HMAC's canonical form. No
/// byte that is wrong ends it early: the cost depends on the length.
pub fn shape(payload: &[u8]) -> Option<Shaped<'_>> {
    if !(SHORTEST..=LONGEST).contains(&payload.len()) {
        return None;
    }
    let sha256 = split::<32>(payload);
    let sha512 = split::<64>(payload);
    if sha256.is_none() && sha512.is_none() {
        return None;
    }
    let mut foreign = 0;
    for &byte in payload {
        let known = byte.is_ascii_alphanumeric() | (byte == b'+') | (byte == b'/');
        foreign |= u8::from(!known);
    }
    // The 11th character of "Salted__": the last four bits of `_`, then two of the salt.
    foreign |= u8::from(!matches!(payload[0], b'8' | b'9' | b'+' | b'/'));
    let shaped = Shaped {
        sha256: sha256.and_then(decoded),
        sha512: sha512.and_then(decoded),
    };
    let canonical = shaped.sha256.is_some() || shaped.sha512.is_some();
    (foreign == 0 && canonical).then_some(shaped)
}

/// A payload's text and the HMAC of `N` bytes behind it, if their lengths are such.
fn split<const N: usize>(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (text, mac) = payload.split_at_checked(payload.len() - text::base64(N))?;
    let bytes = (PREFIX.len() + text.len()) * 3 / 4;
    let whole = bytes.is_multiple_of(BLOCK) && text::base64(bytes) == PREFIX.len() + text.len();
    (whole && bytes > HEAD).then_some((text, mac))
}

fn decoded<'p, const N: usize>((text, mac): (&'p [u8], &[u8])) -> Option<(&'p [u8], [u8; N])> {
    let mut bytes = [0; N];
    let decoded = Base64Unpadded::decode(mac, &mut bytes).ok()?;
    (decoded.len() == N).then_some((text, bytes))
}

/// The HMAC with its key, the constant prefix already in it.
#[derive(Clone)]
enum Keyed {
    Sha256(Hmac<Sha256>),
    Sha512(Hmac<Sha512>),
}

impl Keyed {
    fn new(secret: &Secret) -> Keyed {
        const ANY: &str = "HMAC takes keys of any length";
        match secret.mac {
            Mac::Sha256 => {
                let mac = Hmac::new_from_slice(&secret.hmac).expect(ANY);
                Keyed::Sha256(mac.chain_update(PREFIX))
            }
            Mac::Sha512 => {
                let mac = Hmac::new_from_slice(&secret.hmac).expect(ANY);
                Keyed::Sha512(mac.chain_update(PREFIX))
            }
        }
    }
}

/// That a payload's HMAC holds; no other packet has the same one. Only [`Opener::verify`] makes
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Proof([u8; 16]);

impl Proof {
    /// The first 16 bytes of the HMAC.
    pub fn bytes(&self) -> [u8; 16] {
        self.0
    }
}

/// One key, ready to open packets.
#[derive(Clone)]
pub struct Opener {
    cipher: Vec<u8>,
    keyed: Keyed,
}

/// Shows nothing of the key.
impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        self.cipher.zeroize();
    }
}

impl Opener {
    /// For packets sealed with this secret.
    pub fn new(secret: &Secret) -> Opener {
        Opener {
            cipher: secret.cipher.clone(),
            keyed: Keyed::new(secret),
        }
    }

    /// The kind of HMAC that it computes.
    pub fn mac(&self) -> Mac {
        match self.keyed {
            Keyed::Sha256(_) => Mac::Sha256,
            Keyed::Sha512(_) => Mac::Sha512,
        }
    }

    /// Computes the HMAC, if the payload's length is one with this kind, and compares it in
    /// constant time.
    pub fn verify(&self, shaped: &Shaped) -> Option<Proof> {
        let proof = |mac: &[u8]| mac.first_chunk().map(|&first| Proof(first));
        match &self.keyed {
            Keyed::Sha256(keyed) => {
                let (text, mac) = &shaped.sha256?;
                keyed.clone().chain_update(text).verify_slice(mac).ok()?;
                proof(mac)
            }
            Keyed::Sha512(keyed) => {
                let (text, mac) = &shaped.sha512?;
                keyed.clone().chain_update(text).verify_slice(mac).ok()?;
                proof(mac)
            }
        }
    }

    /// Decrypts a payload that [`Opener::verify`] has given this proof of, and reads it. `None`:
    /// the proof is another's, or what stands inside is no request that is accepted.
    pub fn open(&self, shaped: &Shaped, proof: &Proof) -> Option<Request> {
        let (text, mac) = match self.mac() {
            Mac::Sha256 => shaped
                .sha256
                .as_ref()
                .map(|(text, mac)| (*text, &mac[..]))?,
            Mac::Sha512 => shaped
                .sha512
                .as_ref()
                .map(|(text, mac)| (*text, &mac[..]))?,
        };
        if !mac.starts_with(&proof.0) {
            return None;
        }
        let encoded = [PREFIX, text].concat();
        let mut bytes = vec![0; encoded.len() * 3 / 4];
        Base64Unpadded::decode(&encoded, &mut bytes).ok()?;
        let (head, body) = bytes.split_first_chunk_mut::<HEAD>()?;
        let derived = Derived::new(&self.cipher, head.strip_prefix(MARK)?);
        let mut cipher = cbc::Decryptor::<Aes256>::new(&derived.key.into(), &derived.iv.into());
        cipher.decrypt_blocks(blocks(body));
        text::read(unpadded(body)?)
    }
}

/// Without PKCS#7's padding.
fn unpadded(body: &[u8]) -> Option<&[u8]> {
    let &last = body.last()?;
    let (text, padding) = body.split_at_checked(body.len().checked_sub(last.into())?)?;
    let right = (1..=BLOCK).contains(&padding.len()) && padding.iter().all(|&b| b == last);
    right.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_have_their_shape() {
        for mac in [Mac::Sha256, Mac::Sha512] {
            assert!(shape(&longest(mac)).unwrap().can_be(mac), "{mac:?}");
        }
    }

    #[test]
    fn padding_is_whole() {
        for len in 0..40usize {
            let padding = padded(len) - len;
            assert!((1..=16).contains(&padding) && padded(len).is_multiple_of(16));
            let mut bytes = [vec![b'x'; len], vec![padding as u8; padding]].concat();
            assert_eq!(unpadded(&bytes), Some(&[b'x'; 40][..len]));
            for at in len..bytes.len() - 1 {
                bytes[at] ^= 1;
                assert_eq!(unpadded(&bytes), None);
                bytes[at] ^= 1;
            }
        }
        for wrong in [0, 17, 32, 255] {
            assert_eq!(unpadded(&[wrong; 32]), None, "{wrong}");
        }
        assert_eq!(unpadded(&[]), None);
        assert_eq!(unpadded(&[3, 3]), None);
        assert_eq!(unpadded(&[16; 16]), Some(&[][..]));
    }
}
