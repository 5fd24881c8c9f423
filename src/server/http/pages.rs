//! Static pages: the console, and the client library for browsers that it uses. They are part of the binary.

use crate::wire::http::decoder::{Request, Status};

use super::outcome::Reply;

/// A file that is part of the binary.
#[derive(Debug)]
pub(super) struct StaticPage {
    path: &'static str,
    media_type: &'static str,
    body: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// What a page may do: load what we serve, and talk to us. It may make no markup or script out of
/// text, and nobody may frame it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

const ICON: &[u8] = include_bytes!("../../console/icon.svg");

/// Paths that are served without the console, too: the library, and a file that browsers ask for by themselves.
static OTHERS: [StaticPage; 2] = [
    StaticPage::new("/polecat.js", JAVASCRIPT, include_bytes!("../../../docs/polecat.js")),
    StaticPage::new("/favicon.ico", SVG, ICON),
];

static CONSOLE: [StaticPage; 11] = [
    StaticPage::new("/", HTML, include_bytes!("../../console/console.html")),
    StaticPage::new("/console/console.css", CSS, include_bytes!("../../console/console.css")),
    StaticPage::new("/console/icon.svg", SVG, ICON),
    StaticPage::new("/console/channels.js", JAVASCRIPT, include_bytes!("../../console/channels.js")),
    StaticPage::new("/console/connections.js", JAVASCRIPT, include_bytes!("../../console/connections.js")),
    StaticPage::new("/console/events.js", JAVASCRIPT, include_bytes!("../../console/events.js")),
    StaticPage::new("/console/log.js", JAVASCRIPT, include_bytes!("../../console/log.js")),
    StaticPage::new("/console/main.js", JAVASCRIPT, include_bytes!("../../console/main.js")),
    StaticPage::new("/console/overview.js", JAVASCRIPT, include_bytes!("../../console/overview.js")),
    StaticPage::new("/console/plot.js", JAVASCRIPT, include_bytes!("../../console/plot.js")),
    StaticPage::new("/console/text.js", JAVASCRIPT, include_bytes!("../../console/text.js")),
];

impl StaticPage {
    const fn new(path: &'static str, media_type: &'static str, body: &'static [u8]) -> Self {
        Self { path, media_type, body }
    }

    /// A tag of what is in it, so that a browser asks for it again only when it has changed.
    fn etag(&self) -> String {
        let mut crc = flate2::Crc::new();
        crc.update(self.body);
        format!("\"{:08x}-{:x}\"", crc.sum(), crc.amount())
    }
}

/// The page of that path, if the console is served or the page is not one of the console's.
pub(super) fn page(path: &str, has_console: bool) -> Option<&'static StaticPage> {
    let console = CONSOLE.iter().filter(|_| has_console);
    OTHERS.iter().chain(console).find(|page| page.path == path)
}

/// The page, or that the browser has it.
pub(super) fn get_page<'b>(request: &Request<'b>, page: &'static StaticPage) -> Reply<'b> {
    let etag = page.etag();
    if request.header_values("if-none-match").any(|tags| names(tags, etag.as_bytes())) {
        // The rest is what the browser has.
        let reply = Reply::new(Status::NOT_MODIFIED, &b""[..]).with("ETag", etag);
        return Reply { is_page: true, ..reply };
    }
    let reply = Reply::new(Status::OK, page.body)
        .with("Content-Type", page.media_type)
        .with("ETag", etag)
        .with("Referrer-Policy", "no-referrer")
        .with("Content-Security-Policy", CONTENT_SECURITY_POLICY);
    Reply { is_page: true, ..reply }
}

/// Whether a list of entity tags names this one, weakly compared (RFC 9110 section 13.1.2): a proxy that
/// compresses makes ours weak.
fn names(tags: &[u8], etag: &[u8]) -> bool {
    tags.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|tag| {
        let opaque = tag.strip_prefix(b"W/").unwrap_or(tag);
        opaque == etag || tag == b"*"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_weakly() {
        for tags in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "\"b\",W/\"a\"", "*", " \"a\" "] {
            assert!(names(tags.as_bytes(), b"\"a\""), "{tags}");
        }
        for tags in ["", "\"b\"", "a", "\"aa\"", "w/\"a\"", "W/*"] {
            assert!(!names(tags.as_bytes(), b"\"a\""), "{tags}");
        }
    }

    #[test]
    fn all_that_the_console_names_is_served() {
        for page in &CONSOLE {
            let text = String::from_utf8_lossy(page.body);
            for name in text.split('"').skip(1).step_by(2) {
                let path = match page.path {
                    "/" if name.starts_with("console/") => format!("/{name}"),
                    _ if name.starts_with("./") => format!("/console{}", &name[1..]),
                    _ if name.starts_with("../") => name[2..].to_owned(),
                    _ => continue,
                };
                assert!(super::page(&path, true).is_some(), "{} names {path}", page.path);
            }
        }
    }

    #[test]
    fn without_the_console_the_library_is_left() {
        assert!(page("/", false).is_none() && page("/console/main.js", false).is_none());
        assert!(page("/polecat.js", false).is_some() && page("/", true).is_some());
    }
}
