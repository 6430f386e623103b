//! hapax-client
