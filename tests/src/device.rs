//! The devices that a server is tested on.

/// A kind of device. What a test checks is the same on each: a difference in
/// what a client sees would be a bug of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// A TAP, the kernel holding its other end.
    Tap,
    /// AF_XDP in copy mode on one end of a veth pair, with the filter program
    /// in the driver.
    XdpNative,
    /// As [`Device::XdpNative`], with the program in the kernel's network
    /// core.
    XdpGeneric,
}

impl Device {
    /// Its name in the names of tests and folders.
    pub fn name(self) -> &'static str {
        match self {
            Device::Tap => "tap",
            Device::XdpNative => "xdp_native",
            Device::XdpGeneric => "xdp_generic",
        }
    }

    /// Whether it is one of AF_XDP's, with namespaces of its own for server
    /// and client.
    pub fn is_xdp(self) -> bool {
        self != Device::Tap
    }

    /// How `wirepath serve` is told to use `interface`.
    pub fn serve_args(self, interface: &str) -> Vec<&str> {
        match self {
            Device::Tap => vec!["--tap", interface],
            Device::XdpNative => xdp_args(interface, "driver"),
            Device::XdpGeneric => xdp_args(interface, "generic"),
        }
    }
}

/// Asks for the modes rather than `auto`, so that a fallback is a failure.
fn xdp_args<'a>(interface: &'a str, attach: &'a str) -> Vec<&'a str> {
    vec!["--xdp", interface, "--attach", attach, "--bind", "copy"]
}
