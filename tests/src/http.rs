//! A plain HTTP/1.1 client over a unix socket, for answers no client shows: exact
//! statuses, headers and bytes on the wire.
//!
//! One connection a request. It trusts nothing about the server and knows no API.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
    /// The body with its transfer encoding undone.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON; panics with the body when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("no JSON ({e}) in {} {:?}", self.status, self.text()))
    }

    /// The `message` of an API error; the whole body where there is none.
    pub fn message(&self) -> String {
        serde_json::from_slice::<serde_json::Value>(&self.body)
            .ok()
            .and_then(|v| v["message"].as_str().map(str::to_owned))
            .unwrap_or_else(|| self.text())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection to the engine on which nothing was said yet; it gives up after
/// a minute of silence in either direction.
pub fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// Sends one request and reads the whole answer. A body is sent with its length
/// and, unless a header says otherwise, as JSON.
pub fn request(
    socket: &Path,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> io::Result<Response> {
    let mut stream = connect(socket)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: conex\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        {
            head.push_str("Content-Type: application/json\r\n");
        }
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if let Some(body) = body {
        // A server may refuse a body before it has all of it; its answer counts.
        match stream.write_all(body) {
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) => {}
            other => other?,
        }
    }
    read_response(&mut BufReader::new(stream), method == "HEAD")
}

/// Reads the status line and the headers of an answer, and nothing after them.
pub fn read_head(reader: &mut impl BufRead) -> io::Result<(u16, Vec<(String, String)>)> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| malformed(format!("status line {line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(malformed("end within the headers".into()));
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok((status, headers));
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| malformed(format!("header {line:?}")))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// Reads one whole answer.
pub fn read_response(reader: &mut impl BufRead, headers_only: bool) -> io::Result<Response> {
    let (status, headers) = read_head(reader)?;
    let mut response = Response {
        status,
        headers,
        body: Vec::new(),
    };
    if headers_only || status == 204 || status == 304 {
        return Ok(response);
    }
    if response.header("transfer-encoding") == Some("chunked") {
        while let Some(chunk) = read_chunk(reader)? {
            response.body.extend_from_slice(&chunk);
        }
    } else if let Some(length) = response.header("content-length") {
        let length = length
            .parse()
            .map_err(|_| malformed(format!("content length {length:?}")))?;
        reader.take(length).read_to_end(&mut response.body)?;
        if response.body.len() as u64 != length {
            return Err(malformed(format!(
                "{} bytes of body instead of {length}",
                response.body.len()
            )));
        }
    } else {
        reader.read_to_end(&mut response.body)?;
    }
    Ok(response)
}

/// Reads one chunk of a chunked body; `None` at its proper end.
pub fn read_chunk(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let size = u64::from_str_radix(line.trim(), 16)
        .map_err(|_| malformed(format!("chunk size {line:?}")))?;
    let mut chunk = Vec::new();
    reader.take(size).read_to_end(&mut chunk)?;
    if chunk.len() as u64 != size {
        return Err(malformed("end within a chunk".into()));
    }
    reader.read_line(&mut String::new())?;
    Ok((size > 0).then_some(chunk))
}

fn malformed(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answer(text: &str) -> io::Result<Response> {
        read_response(&mut text.as_bytes(), false)
    }

    #[test]
    fn a_body_by_length_by_chunks_and_by_closing_reads_alike() {
        let sized = answer("HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello").unwrap();
        assert_eq!((sized.status, sized.text().as_str()), (404, "hello"));
        let chunked = answer(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        );
        assert_eq!(chunked.unwrap().text(), "hello");
        let closed = answer("HTTP/1.0 200 OK\r\nX-A: b:c\r\n\r\nhello").unwrap();
        assert_eq!(
            (closed.header("x-a"), closed.text().as_str()),
            (Some("b:c"), "hello")
        );
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        assert!(answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello").is_err());
        assert!(answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello").is_err());
        assert!(answer("HTTP/1.1 200 OK\r\nContent-Length").is_err());
        assert!(answer("").is_err());
    }
}
