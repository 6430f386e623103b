//! hapax-server
