//! An HTTP client for servers of this machine.

/// A client that goes past every proxy and needs no certificates.
pub fn http_client() -> reqwest::Client {
    // An error means that another test installed one before.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .expect("a client without certificates can always be made")
}
