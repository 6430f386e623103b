//! Tokens: drawing, recognising and hashing them. The text of a token is nowhere but with its owner.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;

/// What every token begins with, so that scanners for leaked secrets recognise it.
const PREFIX: &str = "hapax_";
/// How many random bytes a token has.
const RANDOM_BYTES: usize = 32;
/// The purpose in the hash of tokens.
const HASH_CONTEXT: &str = "hapax 2026 token hash v1";

/// A bearer credential. Its `Debug` does not tell it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// What the catalog keeps of a token. With 256 random bits behind it, a plain hash cannot be searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl Token {
    /// Draws a token.
    ///
    /// # Errors
    /// The operating system gave no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))))
    }

    /// Recognises the text of a token; what has another shape is none.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(PREFIX)?;
        let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).ok()?;
        (bytes.len() == RANDOM_BYTES).then(|| Self(text.to_owned()))
    }

    /// Returns the text, to be told once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns what the catalog knows it by.
    pub fn hash(&self) -> TokenHash {
        TokenHash(blake3::derive_key(HASH_CONTEXT, self.0.as_bytes()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl TokenHash {
    /// Returns the bytes of the hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognised_by_its_shape() {
        let token = Token::random().unwrap();
        assert_eq!(Token::parse(token.reveal()), Some(token.clone()));
        assert_ne!(Token::random().unwrap(), token);
        for text in
            ["", "hapax_", "hapax_AAAA", "secret", &token.reveal()[1..], &format!("{}A", token.reveal())]
        {
            assert_eq!(Token::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_token_is_not_told_by_debug() {
        let token = Token::random().unwrap();
        assert!(!format!("{token:?}").contains(&token.reveal()[6..]));
    }
}
