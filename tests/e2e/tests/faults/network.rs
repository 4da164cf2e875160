//! Where the processes are: on loopback, or each in a network namespace of its own, with a cable to the store, and one to whoever asks,
//! that can be cut. It takes root, and iproute2.

use std::{path::Path, process::Command};

use countersign_e2e::program::{free_port, run};

/// Where everything is.
pub struct Network {
    namespaces: Option<Namespaces>,
}

/// As the processes and their clients need it.
#[derive(Clone)]
pub struct Addresses {
    pub store_listens: String,
    /// As clients and the gateway call it.
    pub store: String,
    pub replicas: Vec<ReplicaAddresses>,
    pub gateway: String,
    pub http: String,
    /// What stands in the certificates.
    pub names: Vec<String>,
}

#[derive(Clone)]
pub struct ReplicaAddresses {
    pub listens: String,
    /// As clients and the gateway call it.
    pub origin: String,
    /// Where it finds the store.
    pub store: String,
}

/// Which end of the cable between a replica and the store is pulled out.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// The replica sees that its link is down, and is told at once that there is no way.
    Replica,
    /// What it sends goes nowhere, and nobody tells it.
    Store,
}

/// Removed when dropped.
struct Namespaces {
    /// Of this run; names and networks follow from it.
    run: u32,
    replicas: usize,
}

impl Network {
    pub fn loopback() -> Self {
        Self { namespaces: None }
    }

    /// A network with so many replicas.
    ///
    /// # Panics
    /// Where there may be no namespaces: then this was not tested.
    pub fn of_cables(replicas: usize) -> Self {
        let namespaces = Namespaces { run: std::process::id() % 100, replicas };
        let store = namespaces.name("store");
        namespaces.add(&store);
        namespaces.cable("r", None, 0, &store);
        for number in 1..=replicas {
            let replica = namespaces.name(&number.to_string());
            namespaces.add(&replica);
            namespaces.cable(&format!("r{number}"), None, number, &replica);
            namespaces.cable(&format!("s{number}"), Some(&store), 100 + number, &replica);
        }
        Self { namespaces: Some(namespaces) }
    }

    pub fn addresses(&self, replicas: usize) -> Addresses {
        let local = || format!("127.0.0.1:{}", free_port());
        let (gateway, http) = (local(), local());
        let Some(namespaces) = &self.namespaces else {
            let store_listens = local();
            let store = format!("https://{store_listens}");
            let replicas = (0..replicas)
                .map(|_| {
                    let listens = local();
                    let origin = format!("https://{listens}");
                    ReplicaAddresses { listens, origin, store: store.clone() }
                })
                .collect();
            let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
            return Addresses { store_listens, store, replicas, gateway, http, names };
        };
        let at = |cable: usize, end: u8| namespaces.address(cable, end);
        let replicas: Vec<_> = (1..=replicas)
            .map(|number| ReplicaAddresses {
                listens: format!("{}:7402", at(number, 2)),
                origin: format!("https://{}:7402", at(number, 2)),
                store: format!("https://{}:7401", at(100 + number, 1)),
            })
            .collect();
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), at(0, 2)];
        for number in 1..=replicas.len() {
            names.extend([at(number, 2), at(100 + number, 1)]);
        }
        Addresses {
            store_listens: "0.0.0.0:7401".to_owned(),
            store: format!("https://{}:7401", at(0, 2)),
            replicas,
            gateway,
            http,
            names,
        }
    }

    /// The command of a part's program, where it belongs.
    pub fn command(&self, program: &Path, part: &str, replica: Option<usize>) -> Command {
        let place = match (part, replica) {
            ("policy-store", None) => Some("store".to_owned()),
            (_, Some(number)) => Some((number + 1).to_string()),
            (_, None) => None,
        };
        match (&self.namespaces, place) {
            (Some(namespaces), Some(place)) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &namespaces.name(&place)]).arg(program);
                command
            }
            (Some(_) | None, Some(_) | None) => Command::new(program),
        }
    }

    /// Takes the cable between a replica and the store out, or puts it in again.
    pub fn link(&self, replica: usize, end: End, is_up: bool) {
        let namespaces = self.namespaces.as_ref().expect("there are cables");
        let number = replica + 1;
        let (place, interface) = match end {
            End::Replica => (number.to_string(), namespaces.interface(&format!("s{number}"), 'b')),
            End::Store => ("store".to_owned(), namespaces.interface(&format!("s{number}"), 'a')),
        };
        let state = if is_up { "up" } else { "down" };
        ip(&["-n", &namespaces.name(&place), "link", "set", &interface, state]);
    }
}

impl Namespaces {
    fn name(&self, place: &str) -> String {
        format!("countersign-{}-{place}", self.run)
    }

    /// At most 15 characters, as the system has it.
    fn interface(&self, cable: &str, end: char) -> String {
        format!("cs{}{cable}{end}", self.run)
    }

    /// Of the two ends of a cable: 1 and 2.
    fn address(&self, cable: usize, end: u8) -> String {
        format!("10.{}.{cable}.{end}", 100 + self.run)
    }

    fn add(&self, namespace: &str) {
        ip(&["netns", "add", namespace]);
        ip(&["-n", namespace, "link", "set", "lo", "up"]);
    }

    /// Between `from` (this test's own network where it is none) and `to`.
    fn cable(&self, name: &str, from: Option<&str>, number: usize, to: &str) {
        let (near, far) = (self.interface(name, 'a'), self.interface(name, 'b'));
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &far]);
        let place = |interface: &str, namespace: &str| {
            ip(&["link", "set", interface, "netns", namespace]);
        };
        if let Some(from) = from {
            place(&near, from);
        }
        place(&far, to);
        let set = |namespace: Option<&str>, interface: &str, end: u8| {
            let own: Vec<&str> = namespace.map_or_else(Vec::new, |name| vec!["-n", name]);
            let address = format!("{}/30", self.address(number, end));
            ip(&[own.as_slice(), &["address", "add", &address, "dev", interface]].concat());
            ip(&[own.as_slice(), &["link", "set", interface, "up"]].concat());
        };
        set(from, &near, 1);
        set(Some(to), &far, 2);
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // With a namespace go its ends of cables, and with one end the other.
        let replicas = (1..=self.replicas).map(|number| number.to_string());
        for place in replicas.chain(["store".to_owned()]) {
            let name = self.name(&place);
            let _ = run(Command::new("ip").args(["netns", "delete", &name]), "");
        }
    }
}

fn ip(arguments: &[&str]) {
    let done = run(Command::new("ip").args(arguments), "");
    assert!(
        done.status.success(),
        "ip {}: {}\nF3 takes network namespaces: iproute2, and root with CAP_NET_ADMIN and CAP_SYS_ADMIN. It was not tested.",
        arguments.join(" "),
        done.stderr
    );
}
