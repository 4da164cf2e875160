//! An HTTP/2 connection that asks gRPC questions and costs little itself: headers are encoded once, and later calls name them by their
//! place in the server's table (RFC 7541, section 2.3.2), as any client's do. It reads no headers of answers: an answer without a
//! message is an error, and its text is not kept.
//!
//! Knows frames (RFC 9113, section 4) and the length before a message (gRPC over HTTP/2). Declines to know what the messages say.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    io,
    net::SocketAddr,
    time::Instant,
};

use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const MAX_FRAME: usize = 16_384;
/// The largest window, which is never given anew in full.
const WINDOW: u32 = 0x7FFF_FFFF;
const FIRST_WINDOW: i64 = 65_535;
const READ: usize = 256 * 1024;

/// Things by the numbers of streams, which nobody chose to be alike.
pub type ByStream<T> = HashMap<u32, T, BuildHasherDefault<Spread>>;

/// Spreads one number over a table.
#[derive(Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole message of a stream, without its length; empty where messages are only counted.
    Message(u32, Vec<u8>),
    /// The stream ended. False when it was cut off, or had no message at all, which is how errors end.
    Ended(u32, bool),
}

/// Who is called, and what is said beside the messages.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    /// `/package.Service/Rpc`
    pub path: String,
    /// Of the caller; none for a server that asks for none.
    pub token: String,
}

/// One connection. Every call on it is of one RPC.
pub struct Wire {
    tcp: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
    buffer: Box<[u8]>,
    /// The headers of the first call, then of every later one.
    first: Vec<u8>,
    later: Vec<u8>,
    next_stream: u32,
    /// What the server still takes, on the connection and on each new stream.
    window: i64,
    stream_window: i64,
    streams: ByStream<Stream>,
    /// Whether messages are read, and not only counted.
    keeps: bool,
    /// What was read since the server was told so.
    taken: u32,
}

struct Stream {
    window: i64,
    partial: Vec<u8>,
    had_message: bool,
    /// What the windows had no room for.
    waiting: Vec<(Vec<u8>, bool)>,
}

impl Wire {
    /// Connects, and says the first word.
    ///
    /// # Errors
    /// The socket's.
    pub async fn connect(target: &Target) -> io::Result<Self> {
        let tcp = TcpStream::connect(target.address).await?;
        tcp.set_nodelay(true)?;
        let (first, later) = header_blocks(target);
        let mut out = PREFACE.to_vec();
        // INITIAL_WINDOW_SIZE: a stream's answers never wait for us.
        let mut settings = vec![0, 4];
        settings.extend(WINDOW.to_be_bytes());
        frame(&mut out, SETTINGS, 0, 0, &settings);
        let more = WINDOW - 65_535;
        frame(&mut out, WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        Ok(Self {
            tcp,
            out,
            input: Vec::new(),
            buffer: vec![0; READ].into_boxed_slice(),
            first,
            later,
            next_stream: 1,
            window: FIRST_WINDOW,
            stream_window: FIRST_WINDOW,
            streams: ByStream::default(),
            keeps: false,
            taken: 0,
        })
    }

    /// The same, where messages are read.
    #[must_use]
    pub fn keeping(self) -> Self {
        Self { keeps: true, ..self }
    }

    /// Opens a stream; `message` is a whole one, its length before it. `last` ends our side.
    pub fn open(&mut self, message: &[u8], last: bool) -> u32 {
        let stream = self.next_stream;
        let block = if stream == 1 { &self.first } else { &self.later };
        frame(&mut self.out, HEADERS, END_HEADERS, stream, block);
        self.next_stream += 2;
        let window = self.stream_window;
        let new = Stream { window, partial: Vec::new(), had_message: false, waiting: Vec::new() };
        self.streams.insert(stream, new);
        self.send(stream, message, last);
        stream
    }

    /// Sends another message on a stream.
    pub fn send(&mut self, stream: u32, message: &[u8], last: bool) {
        let Some(own) = self.streams.get_mut(&stream) else { return };
        let size = i64::try_from(message.len()).unwrap_or(i64::MAX);
        let fits = own.waiting.is_empty() && size <= own.window && size <= self.window;
        if !fits || message.len() > MAX_FRAME {
            let chunks: Vec<&[u8]> = message.chunks(MAX_FRAME).collect();
            for (place, chunk) in chunks.iter().enumerate() {
                own.waiting.push((chunk.to_vec(), last && place + 1 == chunks.len()));
            }
            self.resume(stream);
            return;
        }
        own.window -= size;
        self.window -= size;
        frame(&mut self.out, DATA, if last { END_STREAM } else { 0 }, stream, message);
    }

    /// Ends our side of a stream.
    pub fn end(&mut self, stream: u32) {
        frame(&mut self.out, DATA, END_STREAM, stream, &[]);
    }

    /// Sends of what waits as much as fits.
    fn resume(&mut self, stream: u32) {
        let Some(own) = self.streams.get_mut(&stream) else { return };
        while let Some((chunk, last)) = own.waiting.first() {
            let size = i64::try_from(chunk.len()).unwrap_or(i64::MAX);
            if size > own.window || size > self.window {
                return;
            }
            own.window -= size;
            self.window -= size;
            frame(&mut self.out, DATA, if *last { END_STREAM } else { 0 }, stream, chunk);
            own.waiting.remove(0);
        }
    }

    /// Writes what there is to write, and waits for something to read, or until `until`. What came is put into `events`.
    ///
    /// # Errors
    /// The socket's; and when the server ends the connection, or breaks the protocol.
    pub async fn turn(
        &mut self,
        until: Option<Instant>,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        self.write()?;
        let has_more = !self.out.is_empty();
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            readable = self.tcp.readable() => readable?,
            writable = self.tcp.writable(), if has_more => return writable,
            () = timer => return Ok(()),
        }
        match self.tcp.try_read(&mut self.buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => self.input.extend_from_slice(self.buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        self.take(events)
    }

    fn write(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while let Some(rest) = self.out.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.tcp.try_write(rest) {
                Ok(more) => sent += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.out.drain(..sent);
        Ok(())
    }

    /// Takes the whole frames out of what was read.
    fn take(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let mut input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while let Some(([a, b, c, kind, flags, w, x, y, z], after)) = rest.split_first_chunk::<9>()
        {
            let length = u32::from_be_bytes([0, *a, *b, *c]);
            let stream = u32::from_be_bytes([w & 0x7F, *x, *y, *z]);
            let Some((payload, after)) =
                after.split_at_checked(usize::try_from(length).unwrap_or(usize::MAX))
            else {
                break;
            };
            self.frame(*kind, *flags, stream, payload, events)?;
            rest = after;
        }
        let taken = input.len() - rest.len();
        input.drain(..taken);
        self.input = input;
        Ok(())
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        match kind {
            DATA => {
                self.taken += u32::try_from(payload.len()).unwrap_or(u32::MAX);
                if self.taken > WINDOW / 2 {
                    frame(&mut self.out, WINDOW_UPDATE, 0, 0, &self.taken.to_be_bytes());
                    self.taken = 0;
                }
                self.data(stream, payload, events);
            }
            SETTINGS if flags & ACK == 0 => {
                self.settings(payload);
                frame(&mut self.out, SETTINGS, ACK, 0, &[]);
            }
            PING if flags & ACK == 0 => frame(&mut self.out, PING, ACK, 0, payload),
            WINDOW_UPDATE => self.more_window(stream, number(payload)),
            RST_STREAM => {
                self.streams.remove(&stream);
                events.push(Event::Ended(stream, false));
                return Ok(());
            }
            GOAWAY => return Err(io::Error::other("the server ended the connection")),
            _ => {}
        }
        if flags & END_STREAM != 0 && (kind == DATA || kind == HEADERS) {
            let had_message = self.streams.remove(&stream).is_some_and(|own| own.had_message);
            events.push(Event::Ended(stream, had_message));
        }
        Ok(())
    }

    fn data(&mut self, stream: u32, payload: &[u8], events: &mut Vec<Event>) {
        let keeps = self.keeps;
        let Some(own) = self.streams.get_mut(&stream) else { return };
        if own.partial.is_empty() {
            let (rest, had_message) = messages(stream, payload, keeps, events);
            own.had_message |= had_message;
            own.partial.extend_from_slice(rest);
            return;
        }
        own.partial.extend_from_slice(payload);
        let (rest, had_message) = messages(stream, &own.partial, keeps, events);
        own.had_message |= had_message;
        own.partial = rest.to_vec();
    }

    fn settings(&mut self, payload: &[u8]) {
        for setting in payload.as_chunks::<6>().0 {
            let [a, b, w, x, y, z] = *setting;
            // INITIAL_WINDOW_SIZE also moves the windows of streams that are open.
            if u16::from_be_bytes([a, b]) == 4 {
                let window = i64::from(u32::from_be_bytes([w, x, y, z]));
                let more = window - self.stream_window;
                self.stream_window = window;
                self.streams.values_mut().for_each(|own| own.window += more);
            }
        }
        self.resume_all();
    }

    fn more_window(&mut self, stream: u32, more: i64) {
        if stream == 0 {
            self.window += more;
            self.resume_all();
        } else if let Some(own) = self.streams.get_mut(&stream) {
            own.window += more;
            self.resume(stream);
        }
    }

    fn resume_all(&mut self) {
        let waiting = self.streams.iter().filter(|(_, own)| !own.waiting.is_empty());
        let waiting: Vec<u32> = waiting.map(|(stream, _)| *stream).collect();
        waiting.into_iter().for_each(|stream| self.resume(stream));
    }
}

/// The whole messages at the beginning, as events; what is left over, and whether there was one.
fn messages<'a>(
    stream: u32,
    bytes: &'a [u8],
    keeps: bool,
    events: &mut Vec<Event>,
) -> (&'a [u8], bool) {
    let (mut rest, mut had_message) = (bytes, false);
    while let Some(([_, a, b, c, d], after)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([*a, *b, *c, *d]);
        let Some((message, after)) =
            after.split_at_checked(usize::try_from(length).unwrap_or(usize::MAX))
        else {
            break;
        };
        events.push(Event::Message(stream, if keeps { message.to_vec() } else { Vec::new() }));
        had_message = true;
        rest = after;
    }
    (rest, had_message)
}

/// A message as gRPC sends it: not compressed, its length before it.
#[must_use]
pub fn message(message: &impl prost::Message) -> Vec<u8> {
    let length = u32::try_from(message.encoded_len()).unwrap_or(u32::MAX);
    let mut bytes = vec![0];
    bytes.extend(length.to_be_bytes());
    bytes.extend(message.encode_to_vec());
    bytes
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend(length.get(1..).unwrap_or_default());
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn number(payload: &[u8]) -> i64 {
    payload.first_chunk::<4>().map_or(0, |bytes| i64::from(u32::from_be_bytes(*bytes)))
}

/// Places in the static table (RFC 7541, appendix A).
const AUTHORITY: u8 = 1;
const METHOD_POST: u8 = 3;
const PATH: u8 = 4;
const SCHEME_HTTP: u8 = 6;
const AUTHORIZATION: u8 = 23;
const CONTENT_TYPE: u8 = 31;
const USER_AGENT: u8 = 58;
/// Where the server's own table begins; the newest entry is first.
const DYNAMIC: u8 = 62;

/// The headers in full, which puts them into the server's table; and the headers as places in it.
fn header_blocks(target: &Target) -> (Vec<u8>, Vec<u8>) {
    let authority = target.address.to_string();
    let bearer = format!("Bearer {}", target.token);
    let mut named = vec![
        (PATH, target.path.as_str()),
        (AUTHORITY, &authority),
        (CONTENT_TYPE, "application/grpc"),
        (USER_AGENT, "countersign-load"),
    ];
    if !target.token.is_empty() {
        named.push((AUTHORIZATION, &bearer));
    }
    let mut first = vec![0x80 | METHOD_POST, 0x80 | SCHEME_HTTP];
    let mut later = first.clone();
    for (name, value) in &named {
        first.push(0x40 | name);
        text(&mut first, value);
    }
    first.push(0x40);
    text(&mut first, "te");
    text(&mut first, "trailers");
    // All of them, the oldest first.
    let count = u8::try_from(named.len() + 1).unwrap_or_default();
    later.extend((0..count).map(|place| 0x80 | (DYNAMIC + count - 1 - place)));
    (first, later)
}

/// A text without Huffman's code, its length before it (RFC 7541, sections 5.1 and 5.2).
fn text(out: &mut Vec<u8>, value: &str) {
    let mut length = value.len();
    if length < 127 {
        out.push(u8::try_from(length).unwrap_or_default());
    } else {
        out.push(127);
        length -= 127;
        while length >= 128 {
            out.push(u8::try_from(length % 128).unwrap_or_default() | 128);
            length /= 128;
        }
        out.push(u8::try_from(length).unwrap_or_default());
    }
    out.extend_from_slice(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_the_rfc_writes_them() {
        fn check(length: usize, expected: &[u8]) {
            let mut out = Vec::new();
            text(&mut out, &"x".repeat(length));
            assert_eq!(out.get(..out.len() - length), Some(expected), "{length}");
        }
        check(0, &[0]);
        check(126, &[126]);
        check(127, &[127, 0]);
        check(128, &[127, 1]);
        // RFC 7541, C.1.2: 1337 with a prefix of five bits is 31, 154, 10; here it has seven.
        check(1337, &[127, 186, 9]);
    }
}
