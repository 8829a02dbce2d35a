//! Redirects of calls that carry secrets: followed to the same place only, with the method kept.
//!
//! A client that follows redirects by itself carries password, token and JIT config wherever it is
//! sent, and turns a POST into a GET on the way (RFC 9110, 15.4.2: 301 and 302 allow it). So no client
//! that carries a secret follows any by itself; each comes here, and here
//!
//! - a redirect is followed to the same scheme, host and port, or from http to https of the same host,
//!   with method, body and headers as they were;
//! - at most [`HOPS`] times, and the first time it is said in the log, for each such call costs two;
//! - anything else is a failure that says where the place has moved to. The other side has answered
//!   and done nothing, so that it is a certain one.
//!
//! Never following is the alternative: renamed repositories and load balancers that send everybody to
//! https would stop a fleet that need not stop.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use http::{Method, StatusCode, header};
use url::Url;

/// A place that moves more often goes in a circle.
pub(crate) const HOPS: usize = 5;
/// Moves that are remembered as said. A peer that names a new place each time fills no memory.
const SAID_MAX: usize = 64;

/// What an answer says of the place that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// It is the place.
    Stay,
    /// Ask the same there.
    Follow(Url),
    /// It has moved to where nothing may be sent; for a person.
    Refuse(String),
}

/// An address without what may be a secret in it.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Addresses that can have neither have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string().chars().take(300).collect()
}

fn upgrade(from: &Url, to: &Url) -> bool {
    let port = to.port_or_known_default();
    (from.scheme(), to.scheme()) == ("http", "https")
        && from.host() == to.host()
        && (port == Some(443) || port == from.port_or_known_default())
}

/// What the answer to a request of `method` at `from` says.
pub(crate) fn judge(
    from: &Url,
    method: &Method,
    status: StatusCode,
    location: Option<&str>,
) -> Redirect {
    let number = status.as_u16();
    if !matches!(number, 301 | 302 | 303 | 307 | 308) {
        return Redirect::Stay;
    }
    let there = location.and_then(|text| from.join(text).ok());
    let Some(mut to) = there.filter(|to| matches!(to.scheme(), "http" | "https")) else {
        let place = shown(from);
        return Redirect::Refuse(format!(
            "{place} has moved (HTTP {number}) and does not say where to; correct the address"
        ));
    };
    let refuse = |why: &str| Redirect::Refuse(elsewhere(from, &to, why));
    if from.origin() != to.origin() && !upgrade(from, &to) {
        return refuse("which is another place: no credentials are sent there");
    }
    // "See other" answers with a page about the call; it does not ask for the call itself.
    if number == 303 && *method != Method::GET {
        return refuse("which is to be read instead of being asked");
    }
    let _ = to.set_username("");
    let _ = to.set_password(None);
    Redirect::Follow(to)
}

/// Which moves were said in the log.
#[derive(Debug, Default)]
pub(crate) struct Said(Mutex<BTreeSet<String>>);

impl Said {
    /// Says once that `what` has moved.
    pub(crate) fn once(&self, what: &str, from: &Url, to: &Url) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < SAID_MAX && said.insert(what.to_owned()) {
            tracing::warn!(
                %what, from = %shown(from), to = %shown(to),
                "it has moved and is followed, which costs two calls for each; correct the address"
            );
        }
    }
}

/// What came back in the end.
pub(crate) struct Arrived {
    /// The last answer.
    pub(crate) response: reqwest::Response,
    /// Where that answer is a redirect that is not followed: what to say of it.
    pub(crate) refused: Option<String>,
}

/// Sends a request and follows it where it may be followed. `client` must not follow by itself.
///
/// # Errors
/// As `client` says. A body that cannot be sent twice is not followed.
pub(crate) async fn send(
    client: &reqwest::Client,
    mut request: reqwest::Request,
    said: &Said,
) -> reqwest::Result<Arrived> {
    let mut hops = 0;
    loop {
        let (from, method) = (request.url().clone(), request.method().clone());
        let again = request.try_clone();
        let response = client.execute(request).await?;
        let location = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
        let refused = match (judge(&from, &method, response.status(), location), again) {
            (Redirect::Stay, _) => None,
            (Redirect::Refuse(why), _) => Some(why),
            (Redirect::Follow(to), Some(mut next)) if hops < HOPS => {
                hops += 1;
                said.once(&from.origin().ascii_serialization(), &from, &to);
                *next.url_mut() = to;
                request = next;
                continue;
            }
            (Redirect::Follow(to), _) => Some(circle(&from, &to)),
        };
        return Ok(Arrived { response, refused });
    }
}

/// What to say of a place that has moved to where nothing is sent.
pub(crate) fn elsewhere(from: &Url, to: &Url, why: &str) -> String {
    format!("{} has moved to {}, {why}; correct the address", shown(from), shown(to))
}

/// What to say of a place that moves on and on.
pub(crate) fn circle(from: &Url, to: &Url) -> String {
    format!(
        "{} has moved to {} and was not found after {HOPS} moves; correct the address",
        shown(from),
        shown(to)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(from: &str, method: Method, status: u16, location: Option<&str>) -> Redirect {
        let status = StatusCode::from_u16(status).unwrap();
        judge(&Url::parse(from).unwrap(), &method, status, location)
    }

    #[test]
    fn a_move_is_followed_to_the_same_place_only() {
        let follow = |to: &str| Redirect::Follow(Url::parse(to).unwrap());
        let table = [
            ("https://h/a?x=1", "/b?y=2", Some("https://h/b?y=2")),
            ("https://h/a", "https://h:443/b", Some("https://h/b")),
            ("http://h:5000/a", "http://h:5000/v3/a", Some("http://h:5000/v3/a")),
            // To https of the same host, which is no worse than where it was sent already.
            ("http://h/a", "https://h/a", Some("https://h/a")),
            ("http://h:5000/a", "https://h:5000/a", Some("https://h:5000/a")),
            ("http://h/a", "https://u:p@h/a", Some("https://h/a")),
            ("http://h/a", "https://h:8443/a", None),
            ("https://h/a", "http://h/a", None),
            ("https://h/a", "https://h.evil.example/a", None),
            ("https://h/a", "//evil.example/a", None),
            ("https://h/a", "https://h:444/a", None),
            ("https://h/a", "https://h@evil.example/a", None),
            ("https://h/a", "file:///etc/passwd", None),
            ("https://h/a", "https://", None),
        ];
        for (from, location, wanted) in table {
            for status in [301, 302, 307, 308] {
                let is = is(from, Method::POST, status, Some(location));
                match wanted {
                    Some(to) => assert_eq!(is, follow(to), "{from} -> {location}"),
                    None => assert!(matches!(is, Redirect::Refuse(_)), "{from} -> {location}"),
                }
            }
        }
    }

    #[test]
    fn what_is_not_followed_says_where_it_moved_and_shows_no_secret() {
        let to = "https://u:hunter2@new.example/v3?token=hunter3#hunter4";
        let Redirect::Refuse(why) =
            is("https://old.example/v3?k=hunter5", Method::POST, 307, Some(to))
        else {
            panic!("it was followed");
        };
        assert!(why.contains("https://old.example/v3") && why.contains("https://new.example/v3"));
        assert!(!why.contains("hunter"), "{why}");
        let Redirect::Refuse(why) = is("https://old.example/", Method::GET, 301, None) else {
            panic!("it was followed");
        };
        assert!(why.contains("does not say where"), "{why}");
    }

    #[test]
    fn see_other_is_no_other_place_for_what_makes_something() {
        assert!(matches!(is("https://h/a", Method::POST, 303, Some("/b")), Redirect::Refuse(_)));
        assert!(matches!(is("https://h/a", Method::GET, 303, Some("/b")), Redirect::Follow(_)));
        for status in [200, 300, 304, 305, 400, 500] {
            assert_eq!(is("https://h/a", Method::GET, status, Some("/b")), Redirect::Stay);
        }
    }
}
