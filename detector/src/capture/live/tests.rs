//! Live capture in network namespaces of its own.
