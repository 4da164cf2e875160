//! Access keys of users. The secret is answered once, when it is made, and sealed from then on.

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::STANDARD};
use countersign_proto::policy::v1::*;
use zeroize::Zeroizing;

use super::{Call, PolicyStore};
use crate::{
    authz::{Ask, On},
    convert,
    error::Error,
    iam::access_key,
    layout,
};

/// A new access key: its id, its secret, and the secret sealed.
pub struct NewAccessKey {
    pub id: String,
    pub secret: Zeroizing<String>,
    pub sealed: Vec<u8>,
}

impl NewAccessKey {
    /// 16 characters of base32 after `AKIA`, and 40 of base64, as AWS's are.
    pub fn generate(sealer: &crate::seal::Sealer) -> Result<Self, Error> {
        let mut id_bytes = [0_u8; 16];
        let mut secret_bytes = Zeroizing::new([0_u8; 30]);
        rand::fill(&mut id_bytes).map_err(|_| Error::NoRandomness)?;
        rand::fill(secret_bytes.as_mut()).map_err(|_| Error::NoRandomness)?;
        let id: String =
            "AKIA".chars().chain(id_bytes.into_iter().map(crate::view::base32)).collect();
        let secret = Zeroizing::new(STANDARD.encode(secret_bytes.as_ref()));
        let sealed = sealer.seal(&id, secret.as_bytes())?;
        Ok(Self { id, secret, sealed })
    }
}

impl PolicyStore {
    pub async fn create_access_key(
        &self,
        call: Call,
        request: CreateAccessKeyRequest,
    ) -> Result<CreateAccessKeyResponse, Error> {
        let CreateAccessKeyRequest { user_name, validate_only, request_id: _ } = request;
        let asks = [Ask::new("iam:CreateAccessKey", On::User(&user_name))];
        let new = NewAccessKey::generate(&self.sealer)?;
        self.write(&call, &asks, |view, plan, permit| {
            let record =
                access_key::create(view, plan, permit.account(), &user_name, &new.id, &new.sealed)?;
            // A key that is only considered has no secret.
            let secret = if validate_only { String::new() } else { new.secret.to_string() };
            let access_key = convert::access_key(record, secret);
            Ok(CreateAccessKeyResponse { access_key: Some(access_key), revision: String::new() })
        })
        .await
    }

    pub async fn list_access_keys(
        &self,
        call: Call,
        request: ListAccessKeysRequest,
    ) -> Result<ListAccessKeysResponse, Error> {
        let ListAccessKeysRequest { user_name, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let asks = [Ask::new("iam:ListAccessKeys", On::User(&user_name))];
        let mut keys = self
            .read(&call, &asks, |view, permit| access_key::list(view, permit.account(), &user_name))
            .await?;
        keys.sort_by(|a, b| a.access_key_id.cmp(&b.access_key_id));
        let (page, marker) = convert::cut(keys, &paging, |key| &key.access_key_id);
        Ok(ListAccessKeysResponse {
            access_key_metadata: page.into_iter().map(convert::access_key_metadata).collect(),
            is_truncated: marker.is_some(),
            marker: marker.unwrap_or_default(),
        })
    }

    /// As in IAM, the key alone is named; it is asked about as its user is. One of another account is not there.
    pub async fn get_access_key_last_used(
        &self,
        call: Call,
        request: GetAccessKeyLastUsedRequest,
    ) -> Result<GetAccessKeyLastUsedResponse, Error> {
        const ACTION: &str = "iam:GetAccessKeyLastUsed";
        let GetAccessKeyLastUsedRequest { access_key_id } = request;
        let account = call.account()?;
        let owner = self.look(|view| access_key::owner(view, &account, &access_key_id)).await?;
        let on = match &owner {
            Some(record) if !record.user_name.is_empty() => On::User(&record.user_name),
            // The root's, or nobody's.
            Some(_) | None => On::Anything,
        };
        let asks = [Ask::new(ACTION, on)];
        self.read(&call, &asks, |view, permit| {
            let found = access_key::owner(view, permit.account(), &access_key_id)?;
            // It may be another's by now; a name is then not what was asked about.
            let found = found
                .filter(|found| owner.as_ref().is_some_and(|it| it.user_name == found.user_name));
            let record = found.ok_or_else(|| Error::no_such("access key", &access_key_id))?;
            let last_use = view.peek(&layout::last_use(&record.access_key_id))?;
            Ok(GetAccessKeyLastUsedResponse {
                user_name: record.user_name,
                access_key_last_used: Some(convert::access_key_last_used(last_use)),
            })
        })
        .await
    }

    pub async fn update_access_key(
        &self,
        call: Call,
        request: UpdateAccessKeyRequest,
    ) -> Result<UpdateAccessKeyResponse, Error> {
        let UpdateAccessKeyRequest {
            user_name,
            access_key_id,
            status,
            validate_only: _,
            request_id: _,
        } = request;
        let state = convert::access_key_state(status)?;
        let asks = [Ask::new("iam:UpdateAccessKey", On::User(&user_name))];
        self.write(&call, &asks, |view, plan, permit| {
            let account = permit.account();
            access_key::update(view, plan, account, &user_name, &access_key_id, state)?;
            Ok(UpdateAccessKeyResponse::default())
        })
        .await
    }

    pub async fn delete_access_key(
        &self,
        call: Call,
        request: DeleteAccessKeyRequest,
    ) -> Result<DeleteAccessKeyResponse, Error> {
        let DeleteAccessKeyRequest { user_name, access_key_id, validate_only: _, request_id: _ } =
            request;
        let asks = [Ask::new("iam:DeleteAccessKey", On::User(&user_name))];
        self.write(&call, &asks, |view, plan, permit| {
            access_key::delete(view, plan, permit.account(), &user_name, &access_key_id)?;
            Ok(DeleteAccessKeyResponse::default())
        })
        .await
    }
}
