"""What the tools of macOS print, recorded from public pages, and what is read out of it."""

from __future__ import annotations

import json

import pytest

from mlxprune import macos

AC = "Now drawing from 'AC Power'\n"
CHARGING = AC + " -InternalBattery-0 (id=22610019)\t36%; charging; 13:20 remaining present: true\n"
IDLE = AC + " -InternalBattery-0 (id=23265379)\t80%; AC attached; not charging present: true\n"
BATTERY = (
    "Now drawing from 'Battery Power'\n"
    " -InternalBattery-0 \t89%; discharging; 4:47 remaining present: true\n"
)
NOTES = (
    "Note: No thermal warning level has been recorded\n"
    "Note: No performance warning level has been recorded\n"
    "Note: No CPU power status has been recorded\n"
)
SLOWED = (
    "Note: No thermal warning level has been recorded\n"
    "Note: No performance warning level has been recorded\n"
    "2020-11-24 13:10:40 +0100 CPU Power notify\n"
    "\tCPU_Scheduler_Limit \t= 100\n\tCPU_Available_CPUs \t= 8\n\tCPU_Speed_Limit \t= 35\n"
)
SETTINGS = """System-wide power settings:
Currently in use:
 standby              1
 Sleep On Power Button 1
 disksleep            10
 sleep                1 (sleep prevented by caffeinate, runningboardd)
 displaysleep         10
 lowpowermode         0
 womp                 1
"""
GRAPHICS = {
    "SPDisplaysDataType": [
        {
            "_name": "kHW_AppleM1Item",
            "spdisplays_mtlgpufamilysupport": "spdisplays_metal3",
            "spdisplays_ndrvs": [
                {"_name": "Color LCD", "spdisplays_online": "spdisplays_yes"},
            ],
            "spdisplays_vendor": "sppci_vendor_Apple",
            "sppci_bus": "spdisplays_builtin",
            "sppci_cores": "7",
            "sppci_device_type": "spdisplays_gpu",
            "sppci_model": "Apple M1",
        }
    ]
}


def test_power_is_where_the_first_line_says() -> None:
    assert macos.plugged_of(AC) is True  # a desktop prints no more
    assert macos.plugged_of(CHARGING) is True
    assert macos.plugged_of(IDLE) is True
    assert macos.plugged_of(BATTERY) is False
    assert macos.plugged_of("") is None
    assert macos.plugged_of(None) is None


@pytest.mark.parametrize(
    ("line", "low"),
    [(" lowpowermode         0", False), (" lowpowermode         1", True),
     (" powermode            2", False), (" powermode            1", True), ("", None)],
)  # fmt: skip
def test_low_power_mode_has_two_names(line: str, low: bool | None) -> None:
    assert macos.low_power_of(SETTINGS.replace(" lowpowermode         0", line)) is low


def test_the_display_is_not_the_disk() -> None:
    assert macos.display_sleep_of(SETTINGS) == 10
    assert macos.display_sleep_of(None) is None


def test_heat() -> None:
    name = "com.apple.system.thermalpressurelevel"
    levels = [macos.thermal_of(f"{name} {n}\n") for n in range(5)]
    assert levels == ["nominal", "moderate", "heavy", "trapping", "sleeping"]
    assert macos.thermal_of(f"{name} 9\n") is None
    assert macos.thermal_of(f"{name}: Failed with code 1\n") is None
    assert macos.speed_limit_of(NOTES) is None
    assert macos.speed_limit_of(SLOWED) == 35


def test_memory_pressure() -> None:
    assert [macos.pressure_of(text) for text in ("1\n", "2\n", "4\n", "3\n", "", None)] == [
        "normal", "warning", "critical", None, None, None,
    ]  # fmt: skip
    assert macos.pressure_of("kern.memorystatus_vm_pressure_level: 4") == "critical"


def test_the_chip_and_its_cores() -> None:
    found = macos.graphics_of(json.dumps(GRAPHICS))
    assert found == {
        "chip": "Apple M1", "gpu_cores": 7, "displays": 1, "displays_asleep": False
    }  # fmt: skip
    GRAPHICS["SPDisplaysDataType"][0]["spdisplays_ndrvs"][0]["spdisplays_asleep"] = "spdisplays_yes"  # type: ignore[index]
    assert macos.graphics_of(json.dumps(GRAPHICS))["displays_asleep"] is True
    for broken in (None, "", "[]", "{}", '{"SPDisplaysDataType": []}', '{"SPDisplaysDataType": 3}'):
        assert macos.graphics_of(broken) == {}


def test_what_cannot_run_is_refused_with_a_sentence() -> None:
    assert macos.why_unfit("Linux", "x86_64", "", False) is None
    assert macos.why_unfit("Darwin", "arm64", "14.2.1", False) is None
    assert macos.why_unfit("Darwin", "arm64", "26.5.1", False) is None
    assert "macOS 14" in str(macos.why_unfit("Darwin", "arm64", "13.6.3", False))
    assert "Intel processor" in str(macos.why_unfit("Darwin", "x86_64", "14.1", False))
    assert "Rosetta" in str(macos.why_unfit("Darwin", "x86_64", "14.1", True))
    assert macos.is_translated("1\n") and not macos.is_translated("0\n")
    assert not macos.is_translated(None)  # on Intel the key is not there


def test_elsewhere_nothing_is_started() -> None:
    import sys

    if sys.platform == "darwin":
        pytest.skip("this is a Mac")
    assert macos.ask("/usr/bin/true") is None
