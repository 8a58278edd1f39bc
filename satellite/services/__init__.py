"""The Wyoming services that Home Assistant and other clients dial, each stage by itself or a whole run."""
