"""What others may hold the appliance to: JSON Schemas and an AsyncAPI document, of the models."""
