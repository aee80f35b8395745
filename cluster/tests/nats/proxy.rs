//! A proxy between one process and a server. It can be cut while the connections of other processes remain.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) struct Proxy {
    pub(crate) port: u16,
    wire: Arc<Wire>,
}

#[derive(Default)]
struct Wire {
    cut: AtomicBool,
    stuck: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Starts a proxy to a port of this machine. It runs until the test process ends.
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let own = listener.local_addr().expect("an address").port();
        let wire = Arc::new(Wire::default());
        std::thread::spawn({
            let wire = wire.clone();
            move || {
                while let Ok((near, _)) = listener.accept() {
                    // a failure closes only this connection, as on a real network
                    drop(wire.connect(near, port));
                }
            }
        });
        Self { port: own, wire }
    }

    /// Closes the open connections and refuses new ones.
    pub(crate) fn cut(&self) {
        self.wire.cut.store(true, Ordering::SeqCst);
        for stream in self.wire.streams.lock().expect("no panic").drain(..) {
            // it may be closed already
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Accepts connections again.
    pub(crate) fn heal(&self) {
        self.wire.cut.store(false, Ordering::SeqCst);
    }

    /// Keeps every connection open but forwards nothing, like a host that has crashed.
    pub(crate) fn stick(&self) {
        self.wire.stuck.store(true, Ordering::SeqCst);
    }
}

impl Wire {
    fn connect(self: &Arc<Self>, near: TcpStream, port: u16) -> std::io::Result<()> {
        if self.cut.load(Ordering::SeqCst) {
            return Ok(());
        }
        let far = TcpStream::connect(("127.0.0.1", port))?;
        let mut streams = self.streams.lock().expect("no panic");
        for (from, to) in [(&near, &far), (&far, &near)] {
            streams.push(from.try_clone()?);
            let (from, to, wire) = (from.try_clone()?, to.try_clone()?, self.clone());
            std::thread::spawn(move || wire.pump(from, to));
        }
        Ok(())
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            while self.stuck.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(10));
            }
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
}
