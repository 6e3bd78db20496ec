//! Sockets of the speaker.
