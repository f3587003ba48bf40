//! The key of an upgrade and the answer that proves it was read: SHA-1 in base64, as RFC 6455 wants
//! it. Neither keeps anything secret; they tell a WebSocket server from one that repeats what it
//! hears.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// A key nobody used before.
pub(crate) fn fresh() -> String {
    let halves = [(); 2].map(|()| RandomState::new().build_hasher().finish());
    base64(&halves.map(u64::to_be_bytes).concat())
}

/// What a server answers to a key.
pub(crate) fn answer(key: &str) -> String {
    base64(&sha1(format!("{key}{PROTOCOL}").as_bytes()))
}

fn sha1(text: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [
        0x6745_2301,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    let mut padded = text.to_vec();
    padded.push(0x80);
    padded.resize((text.len() + 9).next_multiple_of(64) - 8, 0);
    let bits = u64::try_from(text.len()).unwrap_or(u64::MAX) * 8;
    padded.extend(bits.to_be_bytes());
    for block in padded.as_chunks::<64>().0 {
        mix(&mut state, block);
    }
    let mut digest = [0; 20];
    for (to, word) in digest.chunks_exact_mut(4).zip(state) {
        to.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

#[expect(
    clippy::many_single_char_names,
    reason = "these are the names of the standard"
)]
fn mix(state: &mut [u32; 5], block: &[u8; 64]) {
    let mut words = [0_u32; 80];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    for at in 16..words.len() {
        let word = words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16];
        words[at] = word.rotate_left(1);
    }
    let mut mixed = *state;
    for (round, word) in words.into_iter().enumerate() {
        let [a, b, c, d, e] = mixed;
        let (choice, constant) = match round / 20 {
            0 => ((b & c) | (!b & d), 0x5a82_7999),
            1 => (b ^ c ^ d, 0x6ed9_eba1),
            2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6),
        };
        let next = a
            .rotate_left(5)
            .wrapping_add(choice)
            .wrapping_add(e)
            .wrapping_add(constant)
            .wrapping_add(word);
        mixed = [next, a, b.rotate_left(30), c, d];
    }
    for (sum, part) in state.iter_mut().zip(mixed) {
        *sum = sum.wrapping_add(part);
    }
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(three.get(at).copied().unwrap_or_default()));
        let bits = a << 16 | b << 8 | c;
        for place in 0..4 {
            let digit = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or_default();
            text.push(if place <= three.len() {
                char::from(DIGITS[digit])
            } else {
                '='
            });
        }
    }
    text
}

const PROTOCOL: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_that_of_the_standard() {
        assert_eq!(
            answer("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[cfg(feature = "tls")]
    #[test]
    fn digests_are_those_of_another_library_at_every_length() {
        let text: Vec<u8> = (0..=255).cycle().take(200).collect();
        for len in 0..=text.len() {
            let known = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &text[..len]);
            assert_eq!(sha1(&text[..len]), known.as_ref(), "{len}");
        }
    }

    #[test]
    fn base64_is_padded() {
        let texts = ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes()));
        assert_eq!(texts, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }

    #[test]
    fn keys_are_sixteen_bytes_and_never_the_same() {
        let [one, other] = [fresh(), fresh()];
        assert_ne!(one, other);
        assert!(one.len() == 24 && one.ends_with("=="), "{one}");
    }
}
