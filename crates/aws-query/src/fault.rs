//! Faults: AWS's error codes with their HTTP status, rendered as IAM and STS render them.

use thiserror::Error;

use crate::xml::{Element, document};

/// An error answer. `sender` says whose fault it is (`Type` is `Sender` or `Receiver`).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{code}: {message}")]
pub struct Fault {
    pub code: String,
    pub message: String,
    pub sender: bool,
    /// The HTTP status.
    pub status: u16,
}

impl Fault {
    /// The caller's fault, HTTP 400.
    pub fn sender(code: &str, message: &str) -> Fault {
        Fault { code: code.to_owned(), message: message.to_owned(), sender: true, status: 400 }
    }

    /// Our fault, HTTP 500 or the like.
    pub fn receiver(code: &str, message: &str, status: u16) -> Fault {
        Fault { code: code.to_owned(), message: message.to_owned(), sender: false, status }
    }

    /// The same with another HTTP status: 403 for `AccessDenied`, 404 for `NoSuchEntity`, 409 for conflicts.
    pub fn with_status(mut self, status: u16) -> Fault {
        self.status = status;
        self
    }

    /// `MissingParameter`. Source: IAM API Reference, "Common Errors".
    pub fn missing(name: &str) -> Fault {
        Fault::sender("MissingParameter", &format!("parameter `{name}` is required"))
    }

    /// `ValidationError`.
    pub fn invalid(message: &str) -> Fault {
        Fault::sender("ValidationError", message)
    }

    /// `MalformedQueryString`, HTTP 404 in AWS's list of common errors.
    pub fn malformed(message: &str) -> Fault {
        Fault::sender("MalformedQueryString", message).with_status(404)
    }

    /// `InvalidAction`: no such operation here.
    pub fn invalid_action(action: &str, version: &str) -> Fault {
        let message =
            format!("there is no operation `{}` in version `{}`", short(action), short(version));
        Fault::sender("InvalidAction", &message)
    }

    /// The body: `ErrorResponse` in the service's namespace.
    pub fn render(&self, namespace: &str, request_id: &str) -> String {
        let kind = if self.sender { "Sender" } else { "Receiver" };
        let error = vec![
            Element::text("Type", kind),
            Element::text("Code", &self.code),
            Element::text("Message", &self.message),
        ];
        document(
            "ErrorResponse",
            namespace,
            &[Element::parent("Error", error), Element::text("RequestId", request_id)],
        )
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_awss_shape() {
        let fault = Fault::sender("AccessDenied", "not `<you>` & \"him\"").with_status(403);
        let expected = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
            <Code>AccessDenied</Code><Message>not `&lt;you&gt;` &amp; &quot;him&quot;</Message></Error>\
            <RequestId>id-1</RequestId></ErrorResponse>";
        assert_eq!(fault.render(crate::STS_NAMESPACE, "id-1"), expected);
        assert_eq!(fault.to_string(), "AccessDenied: not `<you>` & \"him\"");
        let receiver = Fault::receiver("ServiceUnavailable", "later", 503);
        assert!(receiver.render(crate::IAM_NAMESPACE, "id-2").contains("<Type>Receiver</Type>"));
        assert_eq!((receiver.status, receiver.sender), (503, false));
        assert_eq!(Fault::invalid_action("Dance", "V").code, "InvalidAction");
    }
}
