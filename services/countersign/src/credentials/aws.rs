//! Wherever AWS's own tools find credentials: the environment, profiles, SSO, `credential_process`, web identity, a container's or an
//! instance's role.

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::ProvideCredentials;
use countersign_sigv4::{Credentials, key::SecretKey};

use super::CredentialsError;

/// The credentials that come first. The region is the one of the STS that is to be asked, for the ways that ask AWS themselves.
///
/// # Errors
/// When there are none; with the words of the last way that was tried.
pub async fn find(region: &str) -> Result<Credentials, CredentialsError> {
    let region = Region::new(region.to_owned());
    let config = aws_config::defaults(BehaviorVersion::latest()).region(region).load().await;
    let provider = config.credentials_provider().ok_or(CredentialsError::None)?;
    let found = provider.provide_credentials().await;
    let found = found.map_err(|error| {
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
        let words: Vec<String> = causes.map(ToString::to_string).collect();
        CredentialsError::Aws(words.join(": "))
    })?;
    Ok(Credentials::new(
        found.access_key_id(),
        SecretKey::new(found.secret_access_key()),
        found.session_token().map(str::to_owned),
    ))
}
