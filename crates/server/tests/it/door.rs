//! Where the present server of a kill loop is, for the threads that work against it.

use std::io;
use std::sync::{Condvar, Mutex};

use crate::client::{Client, Keys, Reply};
use serde_json::Value;

#[derive(Default)]
struct State {
    /// Counts the servers so far.
    epoch: u64,
    host: String,
    stopping: bool,
}

/// Knows the address of the newest server.
pub(crate) struct Door {
    state: Mutex<State>,
    opened: Condvar,
    keys: Keys,
}

impl Door {
    pub(crate) fn new(keys: &Keys) -> Self {
        Self { state: Mutex::default(), opened: Condvar::new(), keys: keys.clone() }
    }

    /// A new server is up.
    pub(crate) fn open(&self, host: &str) {
        let mut state = self.state.lock().unwrap();
        state.epoch += 1;
        host.clone_into(&mut state.host);
        self.opened.notify_all();
    }

    /// The workers shall end after what they are doing; the present server stays.
    pub(crate) fn stop(&self) {
        self.state.lock().unwrap().stopping = true;
    }

    pub(crate) fn stopping(&self) -> bool {
        self.state.lock().unwrap().stopping
    }

    /// A worker that has seen no server yet.
    pub(crate) fn visitor(&self) -> Visitor<'_> {
        Visitor { door: self, epoch: 0, client: None }
    }
}

/// One worker's connection, which follows the servers.
pub(crate) struct Visitor<'a> {
    door: &'a Door,
    epoch: u64,
    client: Option<Client>,
}

impl Visitor<'_> {
    /// One call. An error means that the server died and that nothing is known about the call.
    pub(crate) fn try_call(&mut self, path: &str, body: &Value) -> io::Result<Reply> {
        if self.client.is_none() {
            self.client = Some(self.follow());
        }
        let client = self.client.as_mut().expect("was just set");
        client.post(path, body).inspect_err(|_| self.client = None)
    }

    /// Repeats a call, which must be harmless to repeat, until a server answers it.
    pub(crate) fn call(&mut self, path: &str, body: &Value) -> Reply {
        loop {
            if let Ok(reply) = self.try_call(path, body) {
                return reply;
            }
        }
    }

    /// The data of a repeated call that must succeed.
    pub(crate) fn must(&mut self, path: &str, body: &Value) -> Value {
        let reply = self.call(path, body);
        assert_eq!((reply.status, reply.code), (200, 0), "{path} {body}: {}", reply.text);
        reply.data
    }

    /// Waits for a server that this worker has not seen die.
    fn follow(&mut self) -> Client {
        let seen = self.epoch;
        let state = self.door.state.lock().unwrap();
        let state = self.door.opened.wait_while(state, |state| state.epoch == seen).unwrap();
        self.epoch = state.epoch;
        Client::new(&state.host, &self.door.keys)
    }
}
