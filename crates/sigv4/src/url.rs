//! A URL that every parser reads the same way, or none at all.
//!
//! `scheme://host[:port][/path][?query]` in printable ASCII: no userinfo, no fragment, no backslash, no default port
//! spelled out, no capitals in the host. It does not decode, resolve or normalise: the text equals its own
//! re-serialisation, and says nothing about whether the host may be called.

use std::fmt;

use thiserror::Error;

/// Why a text is not such a URL.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    #[error("the url holds a character that parsers read differently")]
    CharacterNotAllowed,
    #[error("the url's scheme must be https, or http for an operator's own endpoint")]
    SchemeNotAllowed,
    #[error("the url names a user")]
    UserinfoNotAllowed,
    #[error("the url has a fragment")]
    FragmentNotAllowed,
    #[error("the url's host is malformed")]
    HostMalformed,
    #[error("the url's port is malformed, or the scheme's default")]
    PortNotAllowed,
}

impl UrlError {
    pub fn code(&self) -> &'static str {
        match self {
            UrlError::CharacterNotAllowed => "UrlCharacterNotAllowed",
            UrlError::SchemeNotAllowed => "SchemeNotAllowed",
            UrlError::UserinfoNotAllowed => "UserinfoNotAllowed",
            UrlError::FragmentNotAllowed => "FragmentNotAllowed",
            UrlError::HostMalformed => "HostMalformed",
            UrlError::PortNotAllowed => "PortNotAllowed",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// A checked URL. `path` may be empty; `query` is what follows `?`, undecoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: Scheme,
    host: String,
    port: Option<u16>,
    path: String,
    query: Option<String>,
}

impl Url {
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        if !text.bytes().all(is_url_byte) {
            return Err(UrlError::CharacterNotAllowed);
        }
        if text.contains('#') {
            return Err(UrlError::FragmentNotAllowed);
        }
        let (scheme, rest) = split_scheme(text)?;
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) =
            rest.split_at_checked(authority_end).ok_or(UrlError::HostMalformed)?;
        if authority.contains('@') {
            return Err(UrlError::UserinfoNotAllowed);
        }
        let (host, port) = split_port(authority)?;
        if !is_host(host) {
            return Err(UrlError::HostMalformed);
        }
        let port = port.map(|digits| parse_port(scheme, digits)).transpose()?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let url = Url { scheme, host: host.to_owned(), port, path: path.to_owned(), query };
        // One parser, and its own words must be the client's (ATTACKS 3).
        if url.to_string() == text { Ok(url) } else { Err(UrlError::HostMalformed) }
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> Option<u16> {
        self.port
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// `host[:port]`, which is the `host` header's value.
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// `scheme://host[:port]`.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme.as_str(), self.authority())
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)?;
        match &self.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

fn is_url_byte(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e)
        && !matches!(byte, b'\\' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

fn split_scheme(text: &str) -> Result<(Scheme, &str), UrlError> {
    let https = text.strip_prefix("https://").map(|rest| (Scheme::Https, rest));
    let http = || text.strip_prefix("http://").map(|rest| (Scheme::Http, rest));
    https.or_else(http).ok_or(UrlError::SchemeNotAllowed)
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), UrlError> {
    // A colon inside brackets belongs to an IPv6 address.
    let bracket = authority.rfind(']').map_or(0, |position| position + 1);
    let after = authority.get(bracket..).ok_or(UrlError::HostMalformed)?;
    match after.split_once(':') {
        None => Ok((authority, None)),
        Some((_, port)) => {
            let host_end = authority.len() - port.len() - 1;
            Ok((authority.get(..host_end).ok_or(UrlError::HostMalformed)?, Some(port)))
        }
    }
}

fn parse_port(scheme: Scheme, digits: &str) -> Result<u16, UrlError> {
    let port: u16 = digits.parse().map_err(|_| UrlError::PortNotAllowed)?;
    if port == 0 || port == scheme.default_port() || port.to_string() != digits {
        return Err(UrlError::PortNotAllowed);
    }
    Ok(port)
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address
            .parse::<std::net::Ipv6Addr>()
            .is_ok_and(|parsed| parsed.to_string() == address);
    }
    host.len() <= 253 && host.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
    };
    (1..=63).contains(&label.len())
        && label.bytes().all(plain)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let found = Url::parse(text);
        assert_eq!(
            found.as_ref().map(Url::origin).map_err(UrlError::code),
            expected.map(str::to_owned),
            "{text}"
        );
    }

    #[test]
    fn reads_only_what_all_read_alike() {
        check("https://sts.amazonaws.com/", Ok("https://sts.amazonaws.com"));
        check("https://sts.amazonaws.com", Ok("https://sts.amazonaws.com"));
        check("http://127.0.0.1:4566/?a=b", Ok("http://127.0.0.1:4566"));
        check("http://[::1]:80/", Err("PortNotAllowed"));
        check("http://[::1]:8080/", Ok("http://[::1]:8080"));
        check("http://[0:0::1]/", Err("HostMalformed"));
        check("https://sts.amazonaws.com:443/", Err("PortNotAllowed"));
        check("https://sts.amazonaws.com:08443/", Err("PortNotAllowed"));
        check("https://sts.amazonaws.com:99999/", Err("PortNotAllowed"));
        check("https://sts.amazonaws.com:/", Err("PortNotAllowed"));
        check("https://sts.amazonaws.com:1:2/", Err("PortNotAllowed"));
        check("https://sts.amazonaws.com./", Err("HostMalformed"));
        check("https://STS.amazonaws.com/", Err("HostMalformed"));
        check("https://sts..amazonaws.com/", Err("HostMalformed"));
        check("https:///", Err("HostMalformed"));
        check("https://%73ts.amazonaws.com/", Err("HostMalformed"));
        check("https://sts.amazonaws.com@evil.com/", Err("UserinfoNotAllowed"));
        check("https://a:b@evil.com/", Err("UserinfoNotAllowed"));
        check("https://evil.com#@sts.amazonaws.com", Err("FragmentNotAllowed"));
        check("https://sts.amazonaws.com\\@evil.com", Err("UrlCharacterNotAllowed"));
        check("https://sts.amazonaws.com /", Err("UrlCharacterNotAllowed"));
        check("https://sts.amazonaws.com/\n", Err("UrlCharacterNotAllowed"));
        check("https://stѕ.amazonaws.com/", Err("UrlCharacterNotAllowed"));
        check("HTTPS://sts.amazonaws.com/", Err("SchemeNotAllowed"));
        check("HTTPS+x://sts.amazonaws.com/", Err("SchemeNotAllowed"));
        check("file:///etc/passwd", Err("SchemeNotAllowed"));
        check("//sts.amazonaws.com/", Err("SchemeNotAllowed"));
        check("", Err("SchemeNotAllowed"));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_keeps_every_byte(text in "(https?://)?[!-~é]{0,40}") {
            if let Ok(url) = Url::parse(&text) {
                prop_assert_eq!(url.to_string(), text);
            }
        }
    }
}
