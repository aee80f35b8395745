//! `pagewire types`: the types of the handlers of real programs.

use crate::environment::pagewire_alone;
use crate::environment::python::{PACKAGE, PATH, python_program};

const CONFORMING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/js/test/programs/conforming.mjs");
const ORDERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/orders-python");

/// A shell that runs the handlers of the example in Python.
fn orders() -> String {
    format!("cd {ORDERS} && PYTHONPATH={PACKAGE} exec python3 -m pagewire orders:app")
}

#[tokio::test]
async fn handlers_in_python_have_types_of_typescript() {
    let output = pagewire_alone(&["types", "--ts", "--name", "Orders", "--", "sh", "-c", &orders()]).await;
    assert_eq!(output.code, 0, "{output:?}");
    let module = output.out;
    for line in [
        "export interface Orders {",
        "  /** Moves an order to another column. */",
        "  move_order: { params: { number: number; status: \"new\" | \"packed\" | \"sent\" } | \
         [number, \"new\" | \"packed\" | \"sent\"]; result: null };",
        "  add_order: { params: { order: { item: string; count?: number } } | \
         [{ item: string; count?: number }]; result: Record<string, unknown> };",
        "  report: { params: { seconds?: number } | [number?]; result: Record<string, unknown> };",
    ] {
        assert!(module.lines().any(|found| found == line), "{line}\n{module}");
    }
}

#[tokio::test]
async fn handlers_have_types_of_python_that_python_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("orders_api.py");
    let path = file.to_string_lossy().into_owned();
    let output = pagewire_alone(&["types", "--python", "-o", &path, "--", "sh", "-c", &orders()]).await;
    assert_eq!((output.code, output.out.as_str()), (0, ""), "{output:?}");
    assert!(output.err.contains("4 handlers"), "{output:?}");
    let script = "import sys; sys.path.insert(0, sys.argv[1]); import orders_api as api, typing\n\
                  hints = typing.get_type_hints(api.AddOrderParamsOrder)\n\
                  print(hints, sorted(api.AddOrderParamsOrder.__required_keys__), api.ReportParams.__total__)";
    let python =
        tokio::process::Command::new("python3").arg("-c").arg(script).arg(folder.path()).output().await;
    let printed = python.expect("python3");
    assert!(printed.status.success(), "{printed:?}");
    let expected = "{'item': <class 'str'>, 'count': <class 'int'>} ['item'] False\n";
    assert_eq!(String::from_utf8_lossy(&printed.stdout), expected);
}

#[tokio::test]
async fn handlers_in_node_have_types_and_those_without_a_schema_are_unknown() {
    let output = pagewire_alone(&["types", "--ts", "--", "node", CONFORMING]).await;
    assert_eq!(output.code, 0, "{output:?}");
    for line in [
        "  \"check.typed\": { params: { n: number }; result: number };",
        "  \"check.echo\": { params: unknown; result: unknown };",
    ] {
        assert!(output.out.lines().any(|found| found == line), "{line}\n{}", output.out);
    }
}

#[tokio::test]
async fn methods_of_resident_pages_have_types_under_the_name_of_their_class() {
    let python = format!("PYTHONPATH={PATH} exec {}", python_program("counters:app").join(" "));
    let written =
        async |language: &str| pagewire_alone(&["types", language, "--", "sh", "-c", &python]).await;
    let output = written("--ts").await;
    assert_eq!(output.code, 0, "{output:?}");
    for line in [
        "  \"Counter.add\": { params: { by?: number } | [number?]; result: Record<string, unknown> };",
        "  /** Writes the count into the state trees of the page and its user. */",
        "  \"Counter.die\": { params: Record<string, never> | [] | null; result: unknown };",
    ] {
        assert!(output.out.lines().any(|found| found == line), "{line}\n{}", output.out);
    }
    assert!(!output.out.contains("  Counter:"), "the class itself is no handler");
    let output = written("--python").await;
    assert!(
        output.out.contains("class CounterAddParams(TypedDict, total=False):\n    by: int\n"),
        "{output:?}"
    );
    assert!(output.out.contains("CounterAddResult = Dict[str, Any]\n"), "{output:?}");
}

#[tokio::test]
async fn a_program_that_does_not_start_has_no_types_and_the_reason_is_shown() {
    let output =
        pagewire_alone(&["types", "--ts", "--", "python3", "-c", "raise SystemExit('no database')"]).await;
    assert_eq!((output.code, output.out.as_str()), (1, ""), "{output:?}");
    assert!(output.err.contains("no database"), "{output:?}");
    let output = pagewire_alone(&["types", "--", "true"]).await;
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.err.contains("--ts or --python"), "{output:?}");
}
