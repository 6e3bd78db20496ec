//! Services as they answer, hang, break off and say "not now": over HTTP and SMTP, on loopback.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a server got, in order, and a bell for whoever waits for more.
#[derive(Debug)]
pub(crate) struct Inbox<T>(Arc<(Mutex<Vec<T>>, Condvar)>);

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Inbox<T> {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(Vec::new()), Condvar::new())))
    }

    fn push(&self, item: T) -> usize {
        let (items, bell) = &*self.0;
        let mut items = items.lock().unwrap();
        items.push(item);
        bell.notify_all();
        items.len()
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.0.lock().unwrap().clone()
    }

    /// Waits until what came satisfies `enough`.
    pub(crate) fn wait(&self, what: &str, enough: impl Fn(&[T]) -> bool) -> Vec<T> {
        let (items, bell) = &*self.0;
        let deadline = Instant::now() + PATIENCE;
        let mut items = items.lock().unwrap();
        while !enough(&items) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: only {} came", items.len());
            items = bell.wait_timeout(items, left).unwrap().0;
        }
        items.clone()
    }
}

/// An HTTP request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What a server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Status, headers as they stand on the wire, body.
    Answer(u16, &'static str, String),
    /// Nothing, until the client has had enough.
    Hang,
    /// Closes at once.
    Break,
}

impl Reply {
    pub(crate) fn ok(body: &str) -> Self {
        Self::Answer(200, "", body.to_owned())
    }
}

/// An HTTP server; `reply` is given the request and how many came before it.
pub(crate) struct HttpServer {
    pub(crate) address: SocketAddr,
    pub(crate) inbox: Inbox<Request>,
}

impl HttpServer {
    pub(crate) fn start(reply: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inbox = Inbox::new();
        let (server, reply) = (inbox.clone(), Arc::new(reply));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (inbox, reply) = (server.clone(), Arc::clone(&reply));
                thread::spawn(move || serve_http(stream.unwrap(), &inbox, &*reply));
            }
        });
        Self { address, inbox }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn serve_http(
    stream: TcpStream,
    inbox: &Inbox<Request>,
    reply: &(dyn Fn(&Request, usize) -> Reply + Send + Sync),
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(request) = read_request(&mut reader) {
        let before = inbox.push(request.clone()) - 1;
        match reply(&request, before) {
            Reply::Answer(status, headers, body) => {
                let head = format!(
                    "HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n{headers}\r\n",
                    body.len()
                );
                if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
                    return;
                }
            }
            Reply::Hang => {
                // Until the other side closes.
                let _ = reader.read(&mut [0]);
                return;
            }
            Reply::Break => return,
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}

/// A mail as it came.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) data: String,
}

/// An SMTP server that answers the first attempts to deliver with `refusals`, then takes all.
pub(crate) struct SmtpServer {
    pub(crate) address: SocketAddr,
    pub(crate) inbox: Inbox<Mail>,
    /// One entry a delivery that was refused.
    pub(crate) refused: Inbox<()>,
}

impl SmtpServer {
    pub(crate) fn start(refusals: Vec<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (inbox, refused) = (Inbox::new(), Inbox::new());
        let (mails, refusing) = (inbox.clone(), refused.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve_smtp(stream.unwrap(), &mails, &refusing, &refusals);
            }
        });
        Self { address, inbox, refused }
    }
}

fn serve_smtp(
    stream: TcpStream,
    inbox: &Inbox<Mail>,
    refused: &Inbox<()>,
    refusals: &[&'static str],
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    let mut say = |text: &str| stream.write_all(format!("{text}\r\n").as_bytes()).is_ok();
    say("220 test ESMTP");
    let mut mail = Mail { from: String::new(), to: Vec::new(), data: String::new() };
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
        let command = line.trim_end().to_owned();
        line.clear();
        let verb = command.get(..4).unwrap_or_default().to_uppercase();
        let going = match verb.as_str() {
            "EHLO" | "HELO" => say("250 test"),
            "MAIL" => {
                mail.from = command;
                match refusals.get(refused.all().len()) {
                    Some(refusal) => {
                        refused.push(());
                        say(refusal)
                    }
                    None => say("250 good"),
                }
            }
            "RCPT" => {
                mail.to.push(command);
                say("250 good")
            }
            "DATA" => {
                say("354 go on");
                loop {
                    let mut text = String::new();
                    if reader.read_line(&mut text).unwrap_or(0) == 0 {
                        return;
                    }
                    if text == ".\r\n" {
                        break;
                    }
                    mail.data += &text;
                }
                inbox.push(mail.clone());
                say("250 taken")
            }
            "QUIT" => {
                say("221 bye");
                return;
            }
            _ => say("250 good"),
        };
        if !going {
            return;
        }
    }
}
