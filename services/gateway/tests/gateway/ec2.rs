//! A made-up AWS, whose regions sign documents.

use std::sync::atomic::{AtomicUsize, Ordering};

use countersign_gateway::Instances;
use countersign_proto::token::v1::ExchangeRequest;

use crate::{
    client::{Client, grpc_uri},
    forged::{Parts, Region, document},
    proofs::request,
    system::{System, now},
};

pub const INSTANCE: &str = "urn:countersign:proof:ec2-instance-identity";
pub const ACCOUNT: &str = "123456789012";
pub const ID: &str = "i-078517ca8a70a1dde";
pub const REGION: &str = "us-west-2";

pub struct Ec2 {
    pub west: Region,
    pub east: Region,
    /// With the west's name and number, and a key of its own.
    pub stranger: Region,
    folder: std::path::PathBuf,
}

impl Ec2 {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("countersign-ec2-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(folder.join("certs")).unwrap();
        let (west, east) = (Region::new(REGION, 1), Region::new("us-east-1", 2));
        for region in [&west, &east] {
            std::fs::write(folder.join(format!("certs/{}.pem", region.name)), region.pem())
                .unwrap();
        }
        Self { west, east, stranger: Region::new(REGION, 1), folder }
    }

    pub fn instances(&self) -> Instances {
        let file = self.folder.join("instances.toml");
        let text = format!("accounts = [\"{ACCOUNT}\"]\ncertificates = \"certs\"\n");
        std::fs::write(&file, text).unwrap();
        Instances::read(&file, "aws").unwrap()
    }

    /// An instance's envelope, launched a minute ago, with one part spoilt.
    pub fn spoilt(&self, spoil: impl FnOnce(&mut Parts)) -> String {
        let mut parts = Parts::of(&self.west, &good());
        spoil(&mut parts);
        parts.text()
    }

    pub fn signed(&self, region: &Region, text: &str) -> String {
        Parts::of(region, text).text()
    }
}

impl Drop for Ec2 {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// `pendingTime`, so many seconds ago.
pub fn launched(ago: i64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp(now() - ago).unwrap();
    let (date, clock) = (time.date(), time.time());
    format!(
        "{}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

pub fn good() -> String {
    document(ACCOUNT, REGION, ID, &launched(60))
}

pub fn shown(envelope: &str) -> ExchangeRequest {
    ExchangeRequest {
        subject_token: envelope.into(),
        subject_token_type: INSTANCE.into(),
        external_id: String::new(),
        ..request()
    }
}

/// A proof of the client's key, for one exchange with the system.
pub fn possession(system: &System, client: &Client) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("p{}", NEXT.fetch_add(1, Ordering::SeqCst));
    client.proof(&name, &grpc_uri(&system.gateway.origin, "Exchange"))
}
