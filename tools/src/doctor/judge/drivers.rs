//! What is known of drivers and no interface of the kernel tells.
//!
//! Read in the drivers' sources (drivers/net of Linux 6.x); each limit is what
//! the driver checks when a program without multi-buffer support is attached.

/// The page that drivers of a 4 KiB machine give a frame, less the headroom
/// before it and the `skb_shared_info` behind it (320 bytes when aligned).
const PAGE_ROOM: u32 = 4096 - 256 - 320;
const ETHERNET: u32 = 14;
const FCS: u32 = 4;
const VLAN: u32 = 4;
/// The largest buffer that Intel's drivers cut from half a page pair.
const INTEL_BUFFER: u32 = 3072;
const INTEL_PAD: u32 = ETHERNET + FCS + 2 * VLAN;
/// `ICE_RXBUF_1664` and `I40E_RXBUFFER_2048`, with the flag `legacy-rx`.
const ICE_LEGACY_BUFFER: u32 = 1664;
const I40E_LEGACY_BUFFER: u32 = 2048;

/// The largest MTU with which the driver attaches a program, if it is known.
/// `legacy` says whether its flag `legacy-rx` is on.
pub fn native_mtu(driver: &str, legacy: bool) -> Option<u32> {
    Some(match driver {
        "veth" | "virtio_net" => PAGE_ROOM - ETHERNET,
        "ena" => PAGE_ROOM - ETHERNET - FCS - VLAN,
        "mlx5_core" => PAGE_ROOM - ETHERNET - FCS - VLAN,
        "ice" if legacy => ICE_LEGACY_BUFFER - INTEL_PAD,
        "i40e" | "ixgbe" if legacy => I40E_LEGACY_BUFFER - INTEL_PAD,
        "ice" | "i40e" | "ixgbe" => INTEL_BUFFER - INTEL_PAD,
        // igc_xdp_set_prog refuses what is above the standard.
        "igc" => 1500,
        _ => return None,
    })
}

/// Whether the driver runs programs itself, for kernels that do not say
/// (before Linux 6.3).
pub fn has_native_xdp(driver: &str) -> Option<bool> {
    const NATIVE: [&str; 22] = [
        "bnxt_en",
        "ena",
        "fsl_dpaa2_eth",
        "fsl_enetc",
        "gve",
        "hv_netvsc",
        "i40e",
        "ice",
        "idpf",
        "igb",
        "igc",
        "ixgbe",
        "mana",
        "mlx4_en",
        "mlx5_core",
        "mvneta",
        "nfp",
        "qede",
        "stmmac",
        "tun",
        "veth",
        "virtio_net",
    ];
    match driver {
        "" => None,
        name => NATIVE.contains(&name).then_some(true),
    }
}

/// Whether the driver resets its rings, and so drops the link or frames for a
/// moment, when a program is attached or leaves.
pub fn resets_on_attach(driver: &str) -> bool {
    matches!(
        driver,
        "i40e" | "ice" | "ixgbe" | "igc" | "igb" | "mlx5_core" | "ena" | "bnxt_en"
    )
}
