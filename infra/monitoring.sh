# Sourced by ./infra/test: Debian's Alertmanager and promtool, which tests of alerts run. Without apt or the right to
# use it, LEADLOG_MONITORING names a folder that holds both programs (`alertmanager`, `promtool`).

prepare_monitoring() {
    local sudo=()
    if [ -n "${LEADLOG_MONITORING:-}" ] || command -v prometheus-alertmanager >/dev/null || ! command -v apt-get >/dev/null; then
        return
    fi
    [ "$(id -u)" = 0 ] || sudo=(sudo -n)
    headline "Installing Debian's prometheus-alertmanager and prometheus (once)"
    install_monitoring() {
        ${sudo[@]+"${sudo[@]}"} env DEBIAN_FRONTEND=noninteractive \
            apt-get install --yes --quiet=2 --no-install-recommends prometheus-alertmanager prometheus >/dev/null
    }
    install_monitoring 2>/dev/null || { ${sudo[@]+"${sudo[@]}"} apt-get update --quiet=2 && install_monitoring; } ||
        headline "That failed: tests of alerts will say what they miss; LEADLOG_MONITORING can name a folder"
}
