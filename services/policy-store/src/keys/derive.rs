//! Derived keys: what verifies a SigV4 signature without the secret. One day, one region, one service; today and a day either
//! side, by the store's own clock, so that a gateway cannot collect tomorrow's keys.

use countersign_proto::policy::v1::{AccessKeyRecord, AccessKeyState};

use crate::{
    error::Error,
    iam::name,
    layout::{self, SealedSecret},
    view::View,
};

/// The services whose signatures are verified here.
const SERVICES: [&str; 3] = ["iam", "sts", "countersign"];
const DAY: i64 = 86_400;

/// For which day, region and service.
pub struct Scope<'a> {
    pub date: &'a str,
    pub region: &'a str,
    pub service_name: &'a str,
}

impl Scope<'_> {
    /// Holds the scope to the limits. `now` is in seconds since 1970.
    pub fn check(&self, our_region: &str, now: i64) -> Result<(), Error> {
        let near = [now - DAY, now, now + DAY].into_iter().any(|day| date(day) == self.date);
        if !near {
            let message = "the store's own day, or the one before or after it, as YYYYMMDD";
            return Err(Error::validation("date", message));
        }
        if self.region != our_region {
            return Err(Error::validation(
                "region",
                format!("this store's region is `{our_region}`"),
            ));
        }
        if !SERVICES.contains(&self.service_name) {
            return Err(Error::validation(
                "service_name",
                "`sts`, `iam` or `countersign` is expected",
            ));
        }
        Ok(())
    }
}

/// `YYYYMMDD` of a moment, in UTC.
fn date(seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds).map_or_else(
        |_| String::new(),
        |moment| {
            let date = moment.date();
            format!("{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day())
        },
    )
}

/// An access key's owner, its ARN and its sealed secret. A key that may not be used is not there.
pub fn owner(
    view: &View,
    access_key_id: &str,
) -> Result<(AccessKeyRecord, String, SealedSecret), Error> {
    let shown = access_key_id.chars().take(40).collect::<String>().escape_default().to_string();
    let missing = || Error::no_such("active access key", shown.clone());
    let record = view.find(&layout::access_key(access_key_id))?.ok_or_else(missing)?;
    match record.state() {
        AccessKeyState::Active => {}
        AccessKeyState::Inactive | AccessKeyState::Unspecified => return Err(missing()),
    }
    let account = record.account_id.parse().map_err(|_| missing())?;
    let arn = if record.user_name.is_empty() {
        format!("arn:aws:iam::{account}:root")
    } else {
        let user = view.find(&layout::user(&account, &record.user_name))?.ok_or_else(missing)?;
        // A user made again under the name has another id, and not this key.
        if user.user_id != record.user_id {
            return Err(missing());
        }
        name::user_arn(account, &user.path, &user.user_name)
    };
    let sealed = view.find(&layout::secret(access_key_id))?.ok_or_else(missing)?;
    Ok((record, arn, sealed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        // 2026-03-01T12:00:00Z
        let now = 1_772_366_400;
        let check = |date: &str, region: &str, service_name: &str, good: bool| {
            let scope = Scope { date, region, service_name };
            assert_eq!(
                scope.check("us-east-1", now).is_ok(),
                good,
                "{date} {region} {service_name}"
            );
        };
        check("20260301", "us-east-1", "sts", true);
        check("20260228", "us-east-1", "iam", true);
        check("20260302", "us-east-1", "countersign", true);
        check("20260303", "us-east-1", "sts", false);
        check("20260227", "us-east-1", "sts", false);
        check("", "us-east-1", "sts", false);
        check("20260301", "eu-west-1", "sts", false);
        check("20260301", "us-east-1", "s3", false);
        check("20260301", "us-east-1", "", false);
    }
}
