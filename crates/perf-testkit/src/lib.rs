//! Private servers, fault proxies, scripted services and contract suites for perfkit's tests.
