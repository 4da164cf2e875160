//! A request from a later time, with a field that this version does not know: refused by name, whatever it asks, and nothing is done.

use countersign_proto::{FILE_DESCRIPTOR_SET, policy::v1::*};
use prost::Message;
use tonic::{Code, Request, Status, client::Grpc, service::interceptor::InterceptedService};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use crate::support::{ACCOUNT, Bearer, TestStore, reason};

/// What only a later version has.
#[derive(Clone, PartialEq, Message)]
struct Later {
    #[prost(string, tag = "500")]
    surplus: String,
}

/// An import of one group, in which a later version says more.
#[derive(Clone, PartialEq, Message)]
struct LaterImport {
    #[prost(message, repeated, tag = "2")]
    group_detail_list: Vec<LaterGroup>,
}

#[derive(Clone, PartialEq, Message)]
struct LaterGroup {
    #[prost(string, tag = "2")]
    group_name: String,
    #[prost(string, tag = "500")]
    surplus: String,
}

/// Asks an RPC with a message of another type; its first answer. On the wire a stream of one message is a message.
async fn ask<M: Message + Default + Clone + 'static>(
    store: &TestStore,
    bearer: Bearer,
    rpc: &str,
    message: M,
) -> Result<(), Status> {
    let channel = countersign_serve::grpc::channel(&store.origin).unwrap();
    let mut client = Grpc::new(InterceptedService::new(channel, bearer));
    client.ready().await.unwrap();
    let path = format!("/{}/{rpc}", countersign_policy_store::SERVICE_NAME).parse().unwrap();
    let request = Request::new(tokio_stream::once(message));
    let answers = client.streaming(request, path, ProstCodec::<M, Later>::default()).await?;
    answers.into_inner().message().await.map(drop)
}

/// An administrator's token.
async fn admin(store: &TestStore) -> Bearer {
    let role_name = "CountersignAdministrator";
    let role_id = store.role_id(ACCOUNT, role_name).await;
    store.token(ACCOUNT, role_name, &role_id, "countersign", 900)
}

#[tokio::test]
async fn no_rpc_drops_what_it_does_not_know() {
    let store = TestStore::start().await;
    let bearer = admin(&store).await;
    let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let files = set.file.iter().filter(|file| file.package() == "countersign.policy.v1");
    let mut asked = 0;
    for method in files.flat_map(|file| &file.service).flat_map(|service| &service.method) {
        let later = Later { surplus: "x".into() };
        let status = ask(&store, bearer.clone(), method.name(), later).await.unwrap_err();
        let expected = (Code::InvalidArgument, "ValidationError".to_owned());
        assert_eq!(reason(&status), expected, "{}: {status:?}", method.name());
        assert!(status.message().starts_with("`500`"), "{status:?}");
        let message = method.input_type().trim_start_matches('.');
        assert!(status.message().contains(message), "{}", status.message());
        asked += 1;
    }
    let later = Later { surplus: "x".into() };
    let status = ask(&store, bearer, "CreateUser", later).await.unwrap_err();
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "500");
    assert!(asked > 90, "{asked}");
    // Who does not say who it is learns nothing of the contract.
    let nobody = ask(&store, Bearer("x".into()), "CreateUser", Later::default()).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn no_import_drops_a_part_of_an_entity() {
    let store = TestStore::start().await;
    let bearer = admin(&store).await;
    let import = |surplus: &str| LaterImport {
        group_detail_list: vec![LaterGroup { group_name: "g".into(), surplus: surplus.into() }],
    };
    let rpc = "ImportAccountAuthorizationDetails";
    let status = ask(&store, bearer.clone(), rpc, import("a deny")).await.unwrap_err();
    assert!(status.message().starts_with("`group_detail_list.500`"), "{status:?}");
    let mut iam = store.admin().await;
    let groups = || ListGroupsRequest::default();
    assert!(iam.list_groups(groups()).await.unwrap().into_inner().groups.is_empty());
    // Without it the same message is an import.
    ask(&store, bearer, rpc, import("")).await.unwrap();
    assert_eq!(iam.list_groups(groups()).await.unwrap().into_inner().groups.len(), 1);
}
