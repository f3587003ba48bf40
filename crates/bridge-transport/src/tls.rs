//! Whom to trust: the platform's certificate authorities and those of an extra file.

use std::{io, path::Path, sync::Arc};

use rustls::{ClientConfig, crypto::CryptoProvider};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use rustls_platform_verifier::Verifier;

use crate::dial::DialError;

/// Builds the TLS settings; reads files, so it belongs on a blocking thread.
pub(crate) fn client_config(extra: Option<&Path>) -> Result<Arc<ClientConfig>, DialError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = extra.map_or_else(|| Ok(Vec::new()), read_roots)?;
    build(roots, provider)
        .map(Arc::new)
        .map_err(|error| DialError::Roots {
            file: None,
            source: io::Error::other(error),
        })
}

fn build(
    roots: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<ClientConfig, rustls::Error> {
    let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn read_roots(file: &Path) -> Result<Vec<CertificateDer<'static>>, DialError> {
    let failed = |source| DialError::Roots {
        file: Some(file.to_owned()),
        source,
    };
    let roots = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    if roots.is_empty() {
        let reason = "no certificate in the file";
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, reason)));
    }
    Ok(roots)
}
