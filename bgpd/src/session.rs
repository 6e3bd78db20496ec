//! One BGP session, without sockets or clocks.
