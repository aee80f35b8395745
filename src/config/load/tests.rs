use super::*;

fn environment(variables: &[(&str, &str)]) -> Sources {
    let environment = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Sources { environment, ..Sources::default() }
}

fn file(directory: &tempfile::TempDir, text: &str) -> Sources {
    let path = directory.path().join("some.toml");
    std::fs::write(&path, text).unwrap();
    Sources { file: Some(path), ..Sources::default() }
}

fn problem(sources: &Sources) -> String {
    load(sources).unwrap_err().to_string()
}

#[test]
fn the_defaults_are_complete_and_warn_of_the_open_api_alone() {
    let config = load(&Sources::default()).unwrap();
    assert_eq!(config.listen.port(), 8080);
    let warnings = config.warnings();
    assert!(warnings.len() == 1 && warnings[0].starts_with("auth.api_keys is empty"), "{warnings:?}");
    let keyed = environment(&[("PAGEWIRE_AUTH__API_KEYS", "0123456789abcdef0123")]);
    assert_eq!(load(&keyed).unwrap().warnings(), Vec::<String>::new());
}

#[test]
fn every_default_is_a_key_that_the_program_reads() {
    let read = Table::try_from(load(&Sources::default()).unwrap()).unwrap();
    let documented: Table = DEFAULTS.parse().unwrap();
    assert_eq!(known_keys(&read, ""), known_keys(&documented, ""));
}

#[test]
fn every_key_of_a_mount_is_in_the_text_of_the_defaults() {
    let (_, rest) = DEFAULTS.split_once("# What this server serves").unwrap();
    let (section, _) = rest.split_once("\nmount = []").unwrap();
    for key in mount::known_keys().keys() {
        let (value, list) = (format!(" {key} = "), format!("[[mount.{key}]]"));
        assert!(section.contains(&value) || section.contains(&list), "mount.{key} has no line");
    }
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let sources = Sources {
        environment: vec![
            ("PAGEWIRE_CLUSTER".into(), "b".into()),
            ("PAGEWIRE_NODE__LANE".into(), "b".into()),
        ],
        flags: vec![("cluster", "c".into())],
        ..file(&directory, "cluster = 'a'\n[node]\nlane = 'a'\nrelease = 'a'")
    };
    let config = load(&sources).unwrap();
    assert_eq!((config.cluster, config.node.lane, config.node.release), ("c".into(), "b".into(), "a".into()));
    assert_eq!(config.node.number, 0);
}

#[test]
fn an_unknown_key_of_a_file_is_named_with_its_nearest_neighbour() {
    let directory = tempfile::tempdir().unwrap();
    let typo = problem(&file(&directory, "[websocket]\npign_ms = 5"));
    assert!(
        typo.ends_with("unknown key websocket.pign_ms; the nearest known one is websocket.ping_ms"),
        "{typo}"
    );
    let misplaced = problem(&file(&directory, "[auth]\nresume_ms = 5"));
    assert!(misplaced.ends_with("the nearest known one is lifetime.resume_ms"), "{misplaced}");
    let section = problem(&file(&directory, "[limit]\nconnections = 5"));
    assert!(section.ends_with("the nearest known one is limits.connections"), "{section}");
}

#[test]
fn an_unknown_variable_is_named_with_its_nearest_neighbour() {
    let typo = problem(&environment(&[("PAGEWIRE_AUTH_HS256_SECRET", "x")]));
    assert_eq!(
        typo,
        "the environment: unknown key PAGEWIRE_AUTH_HS256_SECRET; \
         the nearest known one is PAGEWIRE_AUTH__HS256_SECRET"
    );
}

#[test]
fn variables_of_the_command_line_and_of_kubernetes_are_not_configuration() {
    load(&environment(&[
        ("PAGEWIRE_URL", "http://x"),
        ("PAGEWIRE_TIMING", "short"),
        ("PAGEWIRE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("PAGEWIRE_SERVICE_HOST", "10.0.0.1"),
        ("HOME", "/root"),
    ]))
    .unwrap();
}

#[test]
fn a_variable_is_read_as_its_default_is_typed() {
    let config = load(&environment(&[
        ("PAGEWIRE_NATS__URLS", "nats://a:4222, nats://b:4222"),
        ("PAGEWIRE_NODE__NUMBER", "7"),
        ("PAGEWIRE_AUTH__ANONYMOUS", "false"),
        ("PAGEWIRE_AUTH__HS256_SECRET", "0123456789abcdef0123456789abcdef"),
    ]))
    .unwrap();
    assert_eq!(config.nats.urls, ["nats://a:4222", "nats://b:4222"]);
    assert_eq!((config.node.number, config.auth.anonymous), (7, false));
    let wrong = problem(&environment(&[("PAGEWIRE_NODE__NUMBER", "seven")]));
    assert_eq!(wrong, r#"PAGEWIRE_NODE__NUMBER: "seven" is not a whole number"#);
}

#[test]
fn a_secret_can_come_from_a_file_but_not_from_two_places() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, "from-a-file\n").unwrap();
    let path = path.to_str().unwrap();
    let config = load(&environment(&[("PAGEWIRE_AUTH__HS256_SECRET_FILE", path)])).unwrap();
    assert_eq!(config.auth.hs256_secret.expose(), "from-a-file");
    let twice = [("PAGEWIRE_AUTH__HS256_SECRET_FILE", path), ("PAGEWIRE_AUTH__HS256_SECRET", "x")];
    assert!(problem(&environment(&twice)).ends_with("exclude each other"));
    let other = problem(&environment(&[("PAGEWIRE_CLUSTER_FILE", path)]));
    assert!(other.contains("unknown key"), "{other}");
}

#[test]
fn secrets_are_never_shown() {
    let config = load(&environment(&[
        ("PAGEWIRE_AUTH__HS256_SECRET", "very-hidden-very-hidden-very-hid"),
        ("PAGEWIRE_AUTH__API_KEYS", "very-hidden-key-1,very-hidden-key-2"),
    ]))
    .unwrap();
    assert_eq!(config.auth.api_keys.len(), 2);
    let shown = format!("{config:?}{}", toml::to_string(&config).unwrap());
    assert!(shown.contains("***") && !shown.contains("very-hidden"), "{shown}");
}

#[test]
fn a_wrong_value_is_named_with_its_key_and_its_source() {
    let directory = tempfile::tempdir().unwrap();
    let kind = problem(&file(&directory, "[websocket]\nping_ms = 'often'"));
    assert!(kind.contains("some.toml") && kind.contains("ping_ms"), "{kind}");
    let address = problem(&environment(&[("PAGEWIRE_LISTEN", "8080")]));
    assert!(address.contains("listen") && address.contains("socket address"), "{address}");
    let range = problem(&environment(&[("PAGEWIRE_WEBSOCKET__PING_MS", "1")]));
    assert_eq!(range, "websocket.ping_ms: 1 is not between 100 and 3600000");
}

#[test]
fn contradictions_are_refused_all_at_once() {
    let found = problem(&environment(&[
        ("PAGEWIRE_AUTH__ANONYMOUS", "false"),
        ("PAGEWIRE_NATS__REPLICAS", "3"),
        ("PAGEWIRE_WEBSOCKET__ORIGINS", "example.com"),
        ("PAGEWIRE_WEBSOCKET__PATH", "/api/ws"),
    ]));
    assert_eq!(found.lines().count(), 4, "{found}");
}

#[test]
fn the_client_is_for_all_origins_or_for_listed_ones() {
    let key = "PAGEWIRE_WEBSOCKET__CLIENT_ORIGINS";
    for origins in ["", "*", "https://a.example,http://b.example:8080"] {
        assert!(load(&environment(&[(key, origins)])).is_ok(), "{origins}");
    }
    for origins in ["a.example", "*,https://a.example", "https://*.example", "null"] {
        let found = problem(&environment(&[(key, origins)]));
        assert!(found.starts_with("websocket.client_origins: "), "{found}");
    }
}

#[test]
fn a_data_directory_and_nats_exclude_each_other() {
    let directory = ("PAGEWIRE_DATA_DIR", "data");
    assert_eq!(load(&environment(&[directory])).unwrap().data_dir, std::path::Path::new("data"));
    let found = problem(&environment(&[directory, ("PAGEWIRE_NATS__URLS", "nats://a:4222")]));
    assert!(found.starts_with("data_dir: "), "{found}");
}

#[test]
fn a_named_file_must_exist() {
    let missing = Sources { file: Some("no/such/file.toml".into()), ..Sources::default() };
    assert!(problem(&missing).starts_with("no/such/file.toml: "));
}

#[test]
fn a_file_that_is_no_toml_is_named_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let broken = problem(&file(&directory, "cluster = 'a'\n[websocket"));
    assert!(broken.contains("some.toml, line 2: ") && broken.lines().count() == 1, "{broken}");
    let outside = problem(&file(&directory, "cluster = 'é"));
    assert!(outside.contains("line 1"), "{outside}");
}
