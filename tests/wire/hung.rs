//! A service whose one worker hangs, as it does when it stores into a file system that is frozen.

use std::sync::{Arc, Mutex, mpsc};

use axum::routing::get;

use super::{PATIENCE, Service};

/// Whoever hangs is released when this is dropped.
pub struct HungWorker {
    release: mpsc::Sender<()>,
    hangs: mpsc::Receiver<()>,
    /// Declared last: it must not be ended before its worker goes on.
    pub service: Service,
}

impl HungWorker {
    pub fn new() -> Self {
        let it = Self::that_will_hang();
        it.hang();
        it
    }

    /// It goes on until it is told to hang.
    pub fn that_will_hang() -> Self {
        let (release, released) = mpsc::channel::<()>();
        let (hang, hangs) = mpsc::channel();
        let both = Arc::new(Mutex::new((hang, released)));
        let block = move || {
            let both = both.lock().unwrap();
            both.0.send(()).unwrap();
            let _ = both.1.recv();
            std::future::ready("")
        };
        let service = Service::start_with_routes(&axum::Router::new().route("/hang", get(block)));
        Self { release, hangs, service }
    }

    pub fn hang(&self) {
        self.service.connect().write("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
        self.hangs.recv_timeout(PATIENCE).unwrap();
    }

    pub fn release(&self) {
        self.release.send(()).unwrap();
    }
}
