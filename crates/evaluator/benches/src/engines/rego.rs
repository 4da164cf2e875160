//! regorus: one rule that walks the principal's policies.

use regorus::languages::rego::compiler::Compiler;
use regorus::rvm::vm::RegoVM;
use regorus::{Engine as Interpreter, Rc, Value};
use serde_json::json;

use crate::engine::{Engine, Stopped};
use crate::workload::{ACTIONS, Policy, Query, Workload};

pub const COMPILED: &str = "regorus, compiled (RVM)";
pub const INTERPRETED: &str = "regorus, interpreted";

const RULE: &str = "data.orders.allow";

const POLICY: &str = r#"
package orders

import rego.v1

default allow := false

allow if {
    "allow" in hit
    not "deny" in hit
}

hit contains p.effect if {
    some p in data.policies[input.principal]
    input.action in p.actions
    p.val == input.ctx[p.key]
    glob.match(p.pattern, null, input.resource)
    net.cidr_contains(p.cidr, input.ip)
}
"#;

pub fn compiled(workload: &Workload) -> Box<dyn Engine> {
    let mut engine = interpreter(workload);
    let rule: Rc<str> = Rc::from(RULE);
    let policy = engine.compile_with_entrypoint(&rule).expect("the rule compiles");
    let program =
        Compiler::compile_from_policy(&policy, &[RULE]).expect("the rule compiles for the machine");
    let mut machine = RegoVM::new();
    machine.load_program(program);
    machine.set_data(data(workload)).expect("the data is an object");
    Box::new(Compiled { machine, inputs: inputs(workload) })
}

pub fn interpreted(workload: &Workload) -> Box<dyn Engine> {
    Box::new(Interpreted { engine: interpreter(workload), inputs: inputs(workload) })
}

fn interpreter(workload: &Workload) -> Interpreter {
    let mut engine = Interpreter::new();
    engine.add_policy("orders.rego".to_owned(), POLICY.to_owned()).expect("the policy is sound");
    engine.add_data(data(workload)).expect("the data is an object");
    engine
}

fn data(workload: &Workload) -> Value {
    let policy = |policy: &&Policy| {
        json!({
            "effect": if policy.allows { "allow" } else { "deny" },
            "actions": policy.actions.map(|action| ACTIONS[action]),
            "pattern": policy.pattern,
            "cidr": policy.cidr,
            "key": policy.key,
            "val": policy.value,
        })
    };
    let lists = workload.by_principal();
    let by_principal: serde_json::Map<String, serde_json::Value> = lists
        .iter()
        .enumerate()
        .map(|(i, policies)| (format!("u{i}"), policies.iter().map(policy).collect()))
        .collect();
    Value::from(json!({ "policies": by_principal }))
}

fn inputs(workload: &Workload) -> Vec<Value> {
    let input = |query: &Query| {
        Value::from(json!({
            "principal": query.principal,
            "action": query.action,
            "resource": query.resource,
            "ip": query.ip,
            "ctx": { "team": query.team, "hold": query.hold },
        }))
    };
    workload.queries.iter().map(input).collect()
}

struct Compiled {
    machine: RegoVM,
    inputs: Vec<Value>,
}

impl Engine for Compiled {
    fn decide(&mut self, index: usize) -> Result<bool, Stopped> {
        self.machine.set_input(self.inputs[index].clone());
        let value = self.machine.execute().map_err(|error| Stopped(error.to_string()))?;
        Ok(value == Value::Bool(true))
    }
}

struct Interpreted {
    engine: Interpreter,
    inputs: Vec<Value>,
}

impl Engine for Interpreted {
    fn decide(&mut self, index: usize) -> Result<bool, Stopped> {
        self.engine.set_input(self.inputs[index].clone());
        let value =
            self.engine.eval_rule(RULE.to_owned()).map_err(|error| Stopped(error.to_string()))?;
        Ok(value == Value::Bool(true))
    }
}
