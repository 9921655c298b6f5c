//! URLs whose host cannot be misread: no user names, no globs, no odd characters.

/// Checks a URL and gives back its host, with the port if there is one.
pub(super) fn check(url: &str) -> Result<String, String> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
        .ok_or("only http:// and https:// URLs are known")?;
    if !url.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/?=&%+,;@".contains(&byte)) {
        return Err("the URL has characters that curl or a server may give a meaning".into());
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, port) = match rest[..end].split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (&rest[..end], None),
    };
    let port_is_plain = port.is_none_or(|port| {
        (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit())
    });
    if !is_host(host) || !port_is_plain {
        return Err("its host is not a plain name".into());
    }
    Ok(rest[..end].to_ascii_lowercase())
}

/// Checks the name of a machine and gives it back in small letters.
pub(super) fn check_host(host: &str) -> Result<String, String> {
    match is_host(host) {
        true => Ok(host.to_ascii_lowercase()),
        false => Err("that is no plain host name".into()),
    }
}

fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_what_it_looks_like() {
        assert_eq!(check("https://api.example.com/v1?x=1").as_deref(), Ok("api.example.com"));
        assert_eq!(check("http://API.example.com:8080").as_deref(), Ok("api.example.com:8080"));
        assert_eq!(check("https://x?y=1").as_deref(), Ok("x"));
    }

    #[test]
    fn tricks_are_refused() {
        for url in [
            "https://api.example.com@evil.test/",
            "ftp://x",
            "file:///etc/passwd",
            "https://",
            "https://a[1-3].test/",
            "https://{a,b}.test/",
            "https://x\\@y/",
            "https://x/#f",
            "x.test",
            "https://x:80:90/",
            "https://x:abc/",
            "https://[::1]/",
            "https://x y/",
            "HTTPS://x",
            "https://a..b/",
            "https://-a/",
            "https://x/$(id)",
            "https://münchen.de/",
        ] {
            assert!(check(url).is_err(), "{url}");
        }
    }
}
