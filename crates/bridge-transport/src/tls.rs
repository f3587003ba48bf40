//! TLS as the [settings](TlsSettings) want it: whom to trust, what to show.

use std::{io, path::Path, sync::Arc};

use http::Uri;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    server::ParsedCertificate,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, UnixTime,
    pem::{self, PemObject as _},
};
use rustls_platform_verifier::Verifier;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    address::host_text,
    dial::DialError,
    tcp::Stream,
    trust::{Fingerprint, Identity, TlsSettings},
};

/// Builds what [`rustls`] needs to hold a handshake to the settings, for whoever speaks to the same
/// peer over another channel. Reads files, so it belongs on a blocking thread.
///
/// # Errors
/// Fails for files that cannot be used and for pins that are to stand alone and are missing.
pub fn client_config(settings: &TlsSettings) -> Result<Arc<ClientConfig>, DialError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = verifier(settings, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| no_roots(None, error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (certificates, key) = read_identity(identity)?;
            let config = builder.with_client_auth_cert(certificates, key);
            config.map_err(|error| no_identity(&identity.key, io::Error::other(error)))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Makes one handshake.
pub(crate) struct Client(TlsConnector);

impl Client {
    pub(crate) async fn new(settings: TlsSettings) -> Result<Self, DialError> {
        let config = tokio::task::spawn_blocking(move || client_config(&settings))
            .await
            .map_err(|error| no_roots(None, error))??;
        Ok(Self(TlsConnector::from(config)))
    }

    pub(crate) async fn connect<S: Stream>(
        self,
        host: &str,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.0.connect(name, stream).await
    }
}

/// Why there is no secure connection.
pub(crate) fn failed(url: &Uri, source: io::Error) -> DialError {
    let host = host_text(url);
    if refuses_identity(&source) {
        DialError::IdentityRefused { host, source }
    } else {
        let source = told(source);
        DialError::Tls { host, source }
    }
}

/// A connection that broke because of what we showed in the handshake is not blamed on the network.
pub(crate) fn blamed(url: &Uri, error: DialError) -> DialError {
    if let DialError::Broken(source) = error {
        if refuses_identity(&source) {
            failed(url, source)
        } else {
            DialError::Broken(source)
        }
    } else {
        error
    }
}

fn verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, DialError> {
    let pinned = |usual| Pinned {
        usual,
        pins: settings.pins.clone(),
        algorithms: provider.signature_verification_algorithms,
    };
    if settings.pins_alone {
        if settings.pins.is_empty() {
            return Err(no_roots(None, NothingPinned));
        }
        return Ok(Arc::new(pinned(None)));
    }
    let roots = settings.roots.as_deref();
    let roots = roots.map_or_else(|| Ok(Vec::new()), read_roots)?;
    let usual = Verifier::new_with_extra_roots(roots, Arc::clone(provider))
        .map_err(|error| no_roots(None, error))?;
    if settings.pins.is_empty() {
        return Ok(Arc::new(usual));
    }
    Ok(Arc::new(pinned(Some(usual))))
}

/// Lets only keys pass that are pinned, and in the usual case only what passes without pins too.
#[derive(Debug)]
struct Pinned {
    usual: Option<Verifier>,
    pins: Vec<Fingerprint>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(usual) = &self.usual {
            usual.verify_server_cert(end_entity, between, name, ocsp, now)?;
        }
        let presented = fingerprint(end_entity)?;
        if self.pins.contains(&presented) {
            return Ok(ServerCertVerified::assertion());
        }
        let error = OtherError(Arc::new(NotPinned { presented }));
        Err(CertificateError::Other(error).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> Result<Fingerprint, Error> {
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    let digest = ring::digest::digest(&ring::digest::SHA256, &key);
    let bytes = digest.as_ref().try_into();
    bytes
        .map(Fingerprint)
        .map_err(|_| Error::General("a SHA-256 of another length".to_owned()))
}

/// The peer has another key than it should.
#[derive(Debug, thiserror::Error)]
#[error("its key is {presented}, which is not pinned")]
struct NotPinned {
    presented: Fingerprint,
}

/// Pins were to stand for everything else, and there are none.
#[derive(Debug, thiserror::Error)]
#[error("pinned keys alone are to be trusted, and no key is pinned")]
struct NothingPinned;

/// What a failed handshake says, in the words of the one who has to mend it.
fn told(error: io::Error) -> io::Error {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref()) else {
        return error;
    };
    // The text of the library has only the debug form of an error that is not its own.
    if let Error::InvalidCertificate(CertificateError::Other(other)) = tls {
        io::Error::new(error.kind(), other.to_string())
    } else {
        error
    }
}

/// Whether this is the peer saying that it does not take what we showed of ourselves. In TLS 1.3 it
/// can only say so after the handshake.
fn refuses_identity(error: &io::Error) -> bool {
    use rustls::AlertDescription as Alert;

    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(
        tls,
        Some(Error::AlertReceived(
            Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::DecryptError
        ))
    )
}

fn read_roots(file: &Path) -> Result<Vec<CertificateDer<'static>>, DialError> {
    read_certificates(file).map_err(|error| no_roots(Some(file), error))
}

fn read_identity(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), DialError> {
    let certificates = read_certificates(&identity.certificates)
        .map_err(|error| no_identity(&identity.certificates, error))?;
    let key = PrivateKeyDer::from_pem_file(&identity.key).map_err(|error| {
        let error = if matches!(error, pem::Error::NoItemsFound) {
            invalid("no private key in the file that is not encrypted")
        } else {
            unreadable(error)
        };
        no_identity(&identity.key, error)
    })?;
    Ok((certificates, key))
}

fn read_certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(invalid("no certificate in the file"));
    }
    Ok(certificates)
}

fn unreadable(error: pem::Error) -> io::Error {
    if let pem::Error::Io(error) = error {
        error
    } else {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn no_roots(
    file: Option<&Path>,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> DialError {
    DialError::Roots {
        file: file.map(Path::to_owned),
        source: io::Error::other(error),
    }
}

fn no_identity(file: &Path, source: io::Error) -> DialError {
    DialError::Identity {
        file: file.to_owned(),
        source,
    }
}
