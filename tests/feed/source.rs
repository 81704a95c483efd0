//! A stream of events, read as a browser reads it.

#![allow(clippy::needless_pass_by_value, reason = "what is expected is written where it is handed over")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use crate::wire::PATIENCE;

/// A connection, and what has come of it so far.
pub struct Source {
    stream: BufReader<TcpStream>,
    pub head: String,
    pub text: String,
    /// The id seen last, which a browser sends when it comes back.
    pub last_id: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub event: String,
    pub data: Value,
    pub id: String,
}

impl Source {
    pub fn open(address: SocketAddr, target: &str, last_event_id: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let header = last_event_id.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{header}\r\n").as_bytes()).unwrap();
        let mut source = Self {
            stream: BufReader::new(stream),
            head: String::new(),
            text: String::new(),
            last_id: String::new(),
        };
        while !source.head.ends_with("\r\n\r\n") {
            assert!(source.stream.read_line(&mut source.head).unwrap() > 0, "closed instead of an answer");
        }
        assert!(source.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", source.head);
        last_event_id.unwrap_or_default().clone_into(&mut source.last_id);
        source
    }

    /// The next event; `None` at the stream's end.
    pub fn next(&mut self) -> Option<Message> {
        let mut silences = 0;
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(message) = self.dispatch(&block) {
                    return Some(message);
                }
                silences += 1;
                assert!(silences < 3, "nothing comes but silence");
            } else if !self.fill() {
                return None;
            }
        }
    }

    /// As the standard says: an id counts also without data, and without data there is no event.
    fn dispatch(&mut self, block: &str) -> Option<Message> {
        let (mut event, mut data) = (String::new(), String::new());
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => id.clone_into(&mut self.last_id),
                Some(("event", name)) => name.clone_into(&mut event),
                Some(("data", text)) => text.clone_into(&mut data),
                _ => assert!(line.starts_with(':'), "{line:?}"),
            }
        }
        (!data.is_empty()).then(|| Message {
            event,
            data: serde_json::from_str(&data).unwrap(),
            id: self.last_id.clone(),
        })
    }

    fn fill(&mut self) -> bool {
        let mut head = String::new();
        self.stream.read_line(&mut head).unwrap();
        let Ok(length) = usize::from_str_radix(head.trim_end(), 16) else {
            panic!("the stream was cut: {head:?}");
        };
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).unwrap();
        self.text.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
        length > 0
    }

    /// The next event's name and what it says.
    pub fn expect(&mut self, event: &str, data: Value) {
        let message = self.next().unwrap();
        assert_eq!((message.event.as_str(), &message.data), (event, &data));
    }

    /// A snapshot, whose `seq` is its id.
    pub fn expect_snapshot(&mut self, mut data: Value) {
        let message = self.next().unwrap();
        data["seq"] = json!(message.id);
        assert_eq!((message.event.as_str(), &message.data), ("snapshot", &data));
    }
}
