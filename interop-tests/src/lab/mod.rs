//! The laboratory: network namespaces, virtual links and the processes that run in them.
