//! The program as it is run, in its small form: every answer of every RPC is the workload's, by ARN and by token, one by one, in
//! batches and in streams. What it took is printed, and means nothing here.

use std::process::Command;

#[test]
fn every_answer_is_the_workloads() {
    let program = env!("CARGO_BIN_EXE_countersign-load");
    let output = Command::new(program).args(["rates", "--quick"]).output().unwrap();
    let (said, failed) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{failed}");
    // One row for each thing that is measured, below two of a head.
    let rows = said.lines().filter(|line| line.starts_with("| ")).count();
    assert_eq!(rows, 2 + 7, "{said}");
}
