//! Addresses of the web. Owns how they are shown: without user, password and query, which may be secrets, because
//! what is shown ends up in logs and on screens.

use std::fmt;
use std::str::FromStr;

use crate::error::TransferError;

/// An address that is fetched by HTTP or HTTPS.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    url: reqwest::Url,
    shown: String,
}

impl Address {
    /// Returns the address as it is asked for.
    pub(super) fn url(&self) -> &reqwest::Url {
        &self.url
    }

    /// Returns the whole address in one spelling, secrets included.
    pub(super) fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// Returns its path, percent-encoded.
    pub fn path(&self) -> &str {
        self.url.path()
    }
}

impl FromStr for Address {
    type Err = TransferError;

    fn from_str(text: &str) -> Result<Self, TransferError> {
        let unfit = || TransferError::BadAddress { what: text.to_owned() };
        let mut url = reqwest::Url::parse(text).map_err(|_| unfit())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(unfit());
        }
        // A fragment is for whoever reads the file, not for its server.
        url.set_fragment(None);
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let shown = format!("{}://{host}{port}{}", url.scheme(), url.path());
        Ok(Self { url, shown })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        #[track_caller]
        fn check(text: &str, shown: Option<&str>) {
            let address = text.parse::<Address>().ok();
            assert_eq!(address.as_ref().map(ToString::to_string).as_deref(), shown);
            if let Some(address) = address {
                assert_eq!(format!("{address:?}"), format!("Address({address})"));
            }
        }
        check("https://any.example/big.iso", Some("https://any.example/big.iso"));
        check("HTTP://Any.Example:8080/a%20b?token=x#y", Some("http://any.example:8080/a%20b"));
        check("https://ann:secret@any.example", Some("https://any.example/"));
        check("http://[::1]:80/a", Some("http://[::1]/a"));
        check("ftp://any.example/a", None);
        check("file:///etc/passwd", None);
        check("any.example/a", None);
        check("https://", None);
    }
}
