//! Sessions without sockets: two of them joined by queues under virtual time, and one facing octets
//! that no peer should send.

mod malformed;
mod pair;
mod world;
