//! What every manifest of the workspace must say.

/// Whether a package's manifest opts into the workspace's lints: cargo ignores `[workspace.lints]` for those that do not.
#[must_use]
pub fn opts_into_workspace_lints(manifest: &str) -> bool {
    let mut section = "";
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        let text: String = line.chars().filter(|character| !character.is_whitespace()).collect();
        match (section, text.as_str()) {
            ("[lints]", "workspace=true") | ("", "lints.workspace=true") => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_opts_in_under_lints_alone() {
        let check = |manifest: &str, expected: bool| {
            assert_eq!(opts_into_workspace_lints(manifest), expected, "{manifest}");
        };
        check("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n", true);
        check("lints.workspace = true\n[package]\nname = \"a\"\n", true);
        check("[package]\nname = \"a\"\n", false);
        check("[package]\n[lints]\n# workspace = true\n", false);
        check("[lints]\nworkspace = false\n", false);
        check("[dependencies.serde]\nworkspace = true\n", false);
        check("[lints.rust]\nunsafe_code = \"warn\"\n", false);
    }
}
