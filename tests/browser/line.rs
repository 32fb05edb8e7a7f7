//! A line between a browser and a service that can be cut, mended and deafened.
//!
//! In: where the service listens. Out: where the browser connects instead. Invariants: cut, it takes no connection and holds none; over a
//! deaf connection nothing comes any more, and nobody is told.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Result;

/// Connections under way, and whether there may be any.
#[derive(Default)]
struct State {
    cut: bool,
    held: Vec<TcpStream>,
    /// Whether each of them is deaf.
    deaf: Vec<Arc<AtomicBool>>,
}

/// The line.
pub struct Line {
    state: Arc<Mutex<State>>,
    /// Where the browser connects.
    pub address: SocketAddr,
}

impl Line {
    /// Lays one to `service`.
    pub fn to(service: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, service) = (listener.local_addr()?, service.to_owned());
        let state = Arc::new(Mutex::new(State::default()));
        let line = Self { state: state.clone(), address };
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.cut {
                    continue;
                }
                let Ok(far) = TcpStream::connect(&service) else { continue };
                for end in [&near, &far] {
                    state.held.extend(end.try_clone());
                }
                let deaf = Arc::new(AtomicBool::new(false));
                state.deaf.push(deaf.clone());
                copy(&near, &far, Arc::default());
                copy(&far, &near, deaf);
            }
        });
        Ok(line)
    }

    /// Cuts it.
    pub fn cut(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.cut = true;
        for stream in state.held.drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Has all connections that there are live on, and bring nothing any more.
    pub fn deafen(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.deaf.iter().for_each(|deaf| deaf.store(true, Ordering::Relaxed));
    }

    /// Mends it.
    pub fn mend(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).cut = false;
    }
}

/// Carries what one end says to the other, if that is not deaf, until either closes.
fn copy(from: &TcpStream, to: &TcpStream, deaf: Arc<AtomicBool>) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if deaf.load(Ordering::Relaxed) {
                continue;
            }
            if to.write_all(buffer.get(..n).unwrap_or_default()).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
