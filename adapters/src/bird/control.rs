//! BIRD's control socket: a line out, numbered lines back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::external::{ExternalError, within};

/// Longest wait for one answer: BIRD answers between two pieces of other work.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Most bytes of one answer: more than 100,000 routes.
const MOST_ANSWER: u64 = 64 * 1024 * 1024;

/// An answer to a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Of the last line.
    pub(super) code: u16,
    /// Every line without its code.
    pub(super) lines: Vec<String>,
}

impl Answer {
    /// Whether BIRD refused the command or what it led to.
    pub(super) const fn is_error(&self) -> bool {
        self.code >= 8000
    }

    /// The last thing that was said.
    pub(super) fn words(&self) -> &str {
        self.lines.iter().rev().find(|line| !line.trim().is_empty()).map_or("", String::as_str)
    }
}

/// A connection to the control socket.
#[derive(Debug)]
pub(super) struct Control {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Control {
    /// Connects, and waits for the greeting.
    pub(super) async fn connect(path: &Path) -> Result<Self, ExternalError> {
        let what = format!("BIRD's control socket {}", path.display());
        let stream = UnixStream::connect(path).await.map_err(ExternalError::io("open", &what))?;
        let mut control = Self { path: path.to_owned(), stream: BufReader::new(stream) };
        let greeting = within(&what, ANSWER_LIMIT, control.answer()).await?;
        if greeting.code == 1 {
            Ok(control)
        } else {
            Err(ExternalError::unreadable(what, greeting.words()))
        }
    }

    /// Sends a command and takes the answer, be it an error.
    pub(super) async fn ask(&mut self, command: &str) -> Result<Answer, ExternalError> {
        let what = format!("BIRD at `{command}`");
        within(&what, ANSWER_LIMIT, async {
            let line = format!("{command}\n");
            let sent = self.stream.get_mut().write_all(line.as_bytes()).await;
            sent.map_err(ExternalError::io("write to", self.path.display().to_string()))?;
            self.answer().await
        })
        .await
    }

    async fn answer(&mut self) -> Result<Answer, ExternalError> {
        let path = self.path.display().to_string();
        let mut reader = Reader::default();
        let mut limited = (&mut self.stream).take(MOST_ANSWER);
        loop {
            let mut line = Vec::new();
            let read = limited.read_until(b'\n', &mut line).await;
            if read.map_err(ExternalError::io("read", &path))? == 0 || line.last() != Some(&b'\n') {
                return Err(ExternalError::Lost(format!("BIRD closed {path}")));
            }
            let line = String::from_utf8_lossy(&line);
            match reader.take(line.trim_end_matches(['\n', '\r'])) {
                Ok(None) => {}
                Ok(Some(answer)) => return Ok(answer),
                Err(NoAnswer) => return Err(ExternalError::unreadable("BIRD", &line)),
            }
        }
    }
}

/// A line that belongs to no answer.
#[derive(Debug, PartialEq, Eq)]
struct NoAnswer;

/// Puts the lines of an answer together: `CODE-text` and lines after a blank are followed by more,
/// `CODE text` is the last, `+` starts a log message.
#[derive(Debug, Default)]
struct Reader {
    lines: Vec<String>,
}

impl Reader {
    fn take(&mut self, line: &str) -> Result<Option<Answer>, NoAnswer> {
        if line.starts_with('+') {
            return Ok(None);
        }
        if let Some(text) = line.strip_prefix(' ') {
            self.lines.push(text.to_owned());
            return Ok(None);
        }
        let (code, text) = line.split_at_checked(4).ok_or(NoAnswer)?;
        let code = code.parse().map_err(|_| NoAnswer)?;
        let more = match text.chars().next() {
            Some('-') => true,
            Some(' ') | None => false,
            Some(_) => return Err(NoAnswer),
        };
        self.lines.push(text.get(1..).unwrap_or_default().to_owned());
        let done = || Answer { code, lines: std::mem::take(&mut self.lines) };
        Ok((!more).then(done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Answer>, NoAnswer> {
        let mut reader = Reader::default();
        for line in text.lines() {
            if let Some(answer) = reader.take(line)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    #[test]
    fn answers_end_where_the_code_says() {
        for (text, code, lines) in [
            ("0001 BIRD 2.0.12 ready.", 1, &["BIRD 2.0.12 ready."][..]),
            ("0000 ", 0, &[""]),
            ("0000", 0, &[""]),
            (
                "0002-Reading configuration from bird.conf\n8002 flow4.conf:2:1 syntax error",
                8002,
                &["Reading configuration from bird.conf", "flow4.conf:2:1 syntax error"],
            ),
            (
                "1007-Table master4:\n 192.0.2.1/32 blackhole\n+log\n1008-\tType: static\n0000 ",
                0,
                &["Table master4:", "192.0.2.1/32 blackhole", "\tType: static", ""],
            ),
        ] {
            let lines = lines.iter().map(ToString::to_string).collect();
            assert_eq!(read(text), Ok(Some(Answer { code, lines })), "{text}");
        }
        assert_eq!(read("0002-Reading"), Ok(None));
    }

    #[test]
    fn hostile_lines_are_no_answers() {
        for text in
            ["", "1", "abcd text", "0003xtext", "\u{20ac}\u{20ac}\u{20ac}", "00 3 text", "-001 x"]
        {
            assert_eq!(Reader::default().take(text), Err(NoAnswer), "{text}");
        }
    }
}
